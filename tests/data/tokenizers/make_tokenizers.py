"""Makes the small tokenizers in this folder with Hugging Face's tokenizers 0.23, in the forms of well-known models.

    python -m venv venv && venv/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
    venv/bin/python make_tokenizers.py

Each NAME.json is a tokenizer.json; reference.json holds texts and, for each tokenizer, their ids and what these
decode to, without and with what the post-processor adds.
"""

import json
import pathlib
import tempfile

from sentencepiece import SentencePieceTrainer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXT = [
    "The quick brown fox jumps over the lazy dog. It's 12345 o'clock, and we'll see 3.14159!",
    "int main() {\n\treturn 0;\n}\n\n// na\u00efve caf\u00e9\n",
    "    indented   spaces\r\nand\u00a0more \u2014 \u201cquotes\u201d \u2026 5\u00b0 10 \u20ac",
    "\u6f22\u5b57\u304b\u306a\u4ea4\u3058\u308a \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442",
] * 3
TEXTS = TEXT[:4] + [
    "", " ", "  ", "\n", "a", " a", "I'LL SHOUT 99 times", "e\u0301 decomposed \u00e9 composed \u1e9b\u0323",
    "\U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 emoji", "tabs\t\tand  \n  mixed\r\n\r\n  lines  ",
    "<|im_start|>user\nHi <|im_end|>", "x<s>y</s> z", "1234567890 1\u00bd\u2167", "\u2581meta \u2581\u2581space", "unseen: \u0e01\u0e02 \u2603",
    "\uff21\uff22\uff23 \ufb01ne\u2026 \u200b caf\u00e9 cafe\u0301 na\u0308ive x\u0307\u0308z \u0130stanbul \u01c5 \uac00", "the [MASK] jumps. Don't do not! it 's",
    "lazylazylazydogdogdog unbelievable-indented", "<unk> <pad>x</s> \u2603\u2603 \u2603", "``quoted''   twice  ",
]

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)


def byte_level(pre, size=420, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[]))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def qwen2():
    tokenizer = byte_level(split(QWEN))
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def llama3():
    tokenizer = byte_level(split(LLAMA3), ignore_merges=True)
    tokenizer.add_special_tokens(["<s>"])
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", start)])])
    return tokenizer


def smollm():
    return byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def gpt2():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def sentencepiece(legacy, fallback=True):
    """As Llama 2's tokenizer: spaces are U+2581, unknown characters are bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    prepare = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    if legacy:
        tokenizer.normalizer = prepare
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(content=" ", left=1)])
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False,
                                  special_tokens=["<unk>", "<s>", "</s>"] + (
                                      [f"<0x{b:02X}>" for b in range(256)] if fallback else []))
    # Trained word by word, so that pieces do not cross words.
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.normalizer = prepare
    words.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581[^\u2581]*"), "isolated")
    words.train_from_iterator(TEXT, trainer)
    trained = json.loads(words.to_str())
    full = json.loads(tokenizer.to_str())
    full["model"]["vocab"], full["model"]["merges"] = trained["model"]["vocab"], trained["model"]["merges"]
    full["added_tokens"] = [dict(each, normalized=False) for each in trained["added_tokens"] if each["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(full))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def fields(message):
    """Number and bytes of the members of a protocol buffer that have a length."""
    def number(at):
        value = shift = 0
        while True:
            value |= (message[at] & 127) << shift
            shift += 7
            at += 1
            if message[at - 1] < 128:
                return value, at
    at = 0
    while at < len(message):
        key, at = number(at)
        if key & 7 == 2:
            size, at = number(at)
            yield key >> 3, message[at:at + size]
            at += size
        elif key & 7 == 0:
            _, at = number(at)
        else:
            at += 4 if key & 7 == 5 else 8


def charsmap():
    """A few rules, as SentencePiece compiles them: full width, ligatures, fractions, composition, what vanishes."""
    rules = [(chr(0xFF01 + i), chr(0x21 + i)) for i in range(94)] + [
        ("\ufb01", "fi"), ("\u2026", "..."), ("\u00a0", " "), ("\u00bd", "1\u20442"), ("e\u0301", "\u00e9"), ("\u1e9b\u0323", "\u1e69"),
        ("\u200b", ""), ("\t", " "), ("\n", " "), ("\r", ""), ("\u2167", "VIII"), ("\u3000", " "), ("\u2014", "-"),
        ("\U0001f468", "\U0001f642"), ("\u20ac", "EUR"), ("x\u0307", "y")]
    with tempfile.TemporaryDirectory() as folder:
        table = pathlib.Path(folder, "rules.tsv")
        table.write_text("".join(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n"
                                 for source, target in rules))
        text = pathlib.Path(folder, "text")
        text.write_text("\n".join(TEXT))
        SentencePieceTrainer.train(
            input=str(text), model_prefix=folder + "/m", vocab_size=100, hard_vocab_limit=False, minloglevel=9,
            normalization_rule_tsv=str(table))
        model = pathlib.Path(folder, "m.model").read_bytes()
    return next(value for number, value in fields(next(value for number, value in fields(model) if number == 3)) if number == 2)


def unigram(fallback=False):
    """As T5's tokenizer, or with bytes for unknown characters and spaces that nothing splits at."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Precompiled(charsmap()) if not fallback else normalizers.Sequence(
        [normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(),
         normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), " ")])
    spaces = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=not fallback)
    tokenizer.pre_tokenizer = spaces if fallback else pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces])
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")]) if fallback else (
        decoders.Metaspace())
    words = Tokenizer(models.Unigram())
    words.normalizer = tokenizer.normalizer
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"] + ([f"<0x{b:02X}>" for b in range(256)] if fallback else [])
    words.train_from_iterator(TEXT, trainers.UnigramTrainer(vocab_size=200 + len(special), show_progress=False,
                                                            special_tokens=special, unk_token="<unk>"))
    trained = json.loads(words.to_str())
    full = json.loads(tokenizer.to_str())
    full["model"] = dict(trained["model"], byte_fallback=fallback)
    full["added_tokens"] = [each for each in trained["added_tokens"] if each["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(full))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def bert(lower=True):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100 if lower else 6))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=lower)
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(
        vocab_size=220, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    if lower:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    else:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


MADE = {"qwen2": qwen2(), "llama3": llama3(), "smollm": smollm(), "gpt2": gpt2(), "llama2": sentencepiece(True),
        "mistral": sentencepiece(False), "unknown": sentencepiece(True, False), "t5": unigram(),
        "unigram_bytes": unigram(True), "bert": bert(), "bert_cased": bert(False)}
reference = {"texts": TEXTS, "tokenizers": {}}
for name, tokenizer in MADE.items():
    tokenizer.save(str(HERE / f"{name}.json"), pretty=False)
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    reference["tokenizers"][name] = {
        "ids": plain, "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in plain],
        "with_special": tokenizer.encode(TEXTS[0]).ids}
(HERE / "reference.json").write_text(json.dumps(reference) + "\n")
