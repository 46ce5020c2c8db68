"""Makes the small tokenizers in this folder with Hugging Face's tokenizers 0.23, in the forms of well-known models.

    python -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python make_tokenizers.py

Each NAME.json is a tokenizer.json; reference.json holds texts and, for each tokenizer, their ids and what these
decode to, without and with what the post-processor adds.
"""

import json
import pathlib

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


MADE = {"qwen2": qwen2(), "llama3": llama3(), "smollm": smollm(), "gpt2": gpt2(), "llama2": sentencepiece(True),
        "mistral": sentencepiece(False), "unknown": sentencepiece(True, False)}
reference = {"texts": TEXTS, "tokenizers": {}}
for name, tokenizer in MADE.items():
    tokenizer.save(str(HERE / f"{name}.json"), pretty=False)
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    reference["tokenizers"][name] = {
        "ids": plain, "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in plain],
        "with_special": tokenizer.encode(TEXTS[0]).ids}
(HERE / "reference.json").write_text(json.dumps(reference) + "\n")
