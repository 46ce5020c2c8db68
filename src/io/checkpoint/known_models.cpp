// Compared with transformers 5.23, class by class: the modules that it replaces by 8-bit ones when
// it loads a model (with a default config of the type), against what linear_rules.cpp says of the
// tensors that it saves.

#include "io/checkpoint/known_models.hpp"

#include <algorithm>
#include <array>

namespace kvant::io {
namespace {

/// The general rules hold.
constexpr std::string_view kByTheRules =
    "aimv2 aimv2_vision_model albert align apertus arcee audioflamingo3_encoder bamba bart "
    "beam bert-generation big_bird bigbird_pegasus bit bitnet blenderbot blenderbot-small "
    "blip blip_2_qformer bloom blt bridgetower bros camembert canine chinese_clip "
    "chinese_clip_vision_model clap clip clip_text_model clip_vision_model clipseg codegen "
    "cohere cohere2 cohere2_vision cohere_compass_vision colmodernvbert colqwen2 convbert "
    "convnext convnextv2 cosmos3_edge_text cosmos3_edge_vision cpmant ctrl cvt cwm "
    "data2vec-text data2vec-vision deberta deberta-v2 deepseek_v3 deepseek_v32 deepseek_vl "
    "deepseek_vl_hybrid diffllama doge donut-swin dpr dpt edgetam_video efficientloftr "
    "efficientnet electra emu3_text_model encodec encoder-decoder ernie ernie4_5 esmc "
    "eurobert evolla exaone4 exaone4_5 exaone4_5_vision falcon_h1 falcon_mamba "
    "fastspeech2_conformer fastspeech2_conformer_with_hifigan florence2 fnet focalnet fsmt "
    "fun_asr_nano fun_asr_nano_encoder funnel gemma gemma2 gemma3_text gemma3n_audio gemma4 "
    "gemma4_audio gemma4_text gemma4_unified gemma4_unified_text gemma4_vision git glm glm4 "
    "glm46v glm4v glm4v_moe_text glm4v_moe_vision glm4v_text glm4v_vision glm5_next_vision "
    "glm_image glm_image_text glm_image_vision glm_image_vqmodel glm_moe_dsa glm_ocr "
    "glm_ocr_text glm_ocr_vision glmasr_encoder glpn gpt_bigcode gpt_neo gpt_oss gptj granite "
    "granite_docling granite_docling_text granite_docling_vision granite_swa granitemoe_swa "
    "groupvit helium hgnet_v2 hiera hunyuan_vl_vision hyperclovax idefics idefics2 idefics3 "
    "idefics3_vision inkling_text instructblip instructblipvideo internvl_vision jais2 janus "
    "jetmoe kimi_k25_vision kosmos-2 kosmos-2.5 lasr_encoder layoutlm layoutlmv3 led levit "
    "lfm2 lfm2_vl lfm3 lightglue lighton_ocr lilt llama llama4 llama4_text longformer "
    "lw_detr_vit lxmert m2m_100 mamba mamba2 marian markuplm maskformer-swin mbart "
    "megatron-bert metaclip_2 mgp-str minicpm3 minicpm_ocr minicpm_ocr_vision minicpmv4_6 "
    "minicpmv4_7 minicpmv4_7_vision minimax_m3_vl_text ministral3 mistral mistral4 "
    "mlcd_vision_model mllama_text_model mllama_vision_model mobilebert mobilenet_v1 "
    "mobilenet_v2 mobilevit mobilevitv2 modernvbert moshi moss_transcribe_diarize "
    "moss_transcribe_diarize_audio mpnet mpt mra mt5 muse_glimmer muse_glimmer_assistant "
    "muse_glimmer_text muse_glimmer_vision muse_spark muse_spark_audio muse_spark_text "
    "muse_spark_vision musicgen musicgen_decoder musicgen_melody musicgen_melody_decoder mvp "
    "nanochat nemotron3_5_transcribe_asr_audio nemotron3_5_transcribe_audio "
    "nemotron3_5_transcribe_word_timestamp nemotron3_diarization nemotron3_diarization_audio "
    "nemotron_asr_streaming_encoder neucodec nllb-moe nystromformer olmo olmo2 olmo3 "
    "openai_privacy_filter opt ovis2 parakeet_ctc parakeet_encoder parakeet_tdt patchtsmixer "
    "patchtst pegasus pegasus_x perceiver persimmon phi phi3 pixtral plbart pocket_tts "
    "pocket_tts_audio_tokenizer pocket_tts_audio_tokenizer_decoder "
    "pocket_tts_audio_tokenizer_encoder poolformer pop2piano pp_formulanet pp_lcnet "
    "pp_lcnet_v3 pp_lcnet_v4 pp_ocrv5_mobile_det pp_ocrv5_mobile_rec pp_ocrv5_server_rec "
    "pp_ocrv6_small_det pp_ocrv6_small_rec pp_ocrv6_tiny_rec prophetnet pvt pvt_v2 "
    "qianfan_ocr_vision qwen2 qwen2_5_vl_text qwen2_5_vl_vision qwen2_audio_encoder "
    "qwen2_vl_text qwen3 qwen3_5 qwen3_5_moe_vision qwen3_5_text qwen3_5_vision qwen3_asr "
    "qwen3_vl qwen3_vl_moe qwen3_vl_moe_text qwen3_vl_moe_vision qwen3_vl_text "
    "qwen3_vl_vision qwen4_exp_vision recurrent_gemma reformer regnet rembert resnet "
    "rf_detr_dinov2 roberta roberta-prelayernorm roc_bert roformer rt_detr_resnet rwkv sam "
    "sam2 sam2_hiera_det_model sam2_video sam2_vision_model sam3_vision_model sam3_vit_model "
    "sam_hq sam_hq_vision_model sam_vision_model seamless_m4t seamless_m4t_v2 seed_oss seggpt "
    "siglip siglip2 siglip2_vision_model siglip_vision_model smollm3 smolvlm smolvlm_vision "
    "speech_to_text squeezebert stablelm starcoder2 superglue "
    "superpoint swiftformer swin2sr swinv2 t5 tapas textnet timesfm timesformer tvp udop umt5 "
    "univnet upernet uvdoc uvdoc_backbone vaultgemma vibevoice vibevoice_acoustic_tokenizer "
    "vibevoice_acoustic_tokenizer_decoder vibevoice_acoustic_tokenizer_encoder video_llama_3 "
    "video_llama_3_vision videoprism videoprism_vision_model vilt visual_bert vitdet vitpose "
    "vitpose_backbone vits vjepa2 voxtral_encoder voxtral_realtime_encoder xcodec xcodec2 "
    "xglm xlm-roberta xlm-roberta-xl xlstm xmod yoso youtu zamba zamba2 zaya";

/// The general rules hold, and the loaded model has other names for some of its modules: their
/// beginnings differ, up to the number of the block.
constexpr std::string_view kRenamed =
    "afmoe altclip aria aria_text audioflamingo3 axk1 chmv2 cohere2_moe colpali csm "
    "deepseek_v2 dinov3_convnext dinov3_vit ernie4_5_moe exaone_moe flex_olmo flint fuyu "
    "gemma3 glm4_moe glm4_moe_lite glm4v_moe glmasr got_ocr2 gpt_neox granite_speech "
    "granite_speech_plus granitemoe granitemoehybrid granitemoeshared internvl jamba kolibri1 "
    "kyutai_speech_to_text llava llava_next llava_next_video llava_onevision longcat_flash "
    "mellum mimi mimi_decoder mimi_encoder mimo_v2_flash minimax minimax_m2 mistral3 mixtral "
    "mllama musicflamingo nemotron_h olmo_hybrid olmoe paddleocr_vl paligemma phimoe pi0 "
    "qwen2_5_omni_thinker qwen2_5_vl qwen2_audio qwen2_moe qwen2_vl qwen3_5_moe "
    "qwen3_5_moe_text qwen3_moe qwen3_next qwen4_exp qwen4_exp_text sam3_tracker "
    "sam3_tracker_video shieldgemma2 solar_open ultravbert vibevoice_asr video_llava videomae "
    "vipllava voxtral yolos";

/// The same, and names inside of blocks differ too.
constexpr std::string_view kRenamedInside =
    "audio-spectrogram-transformer axk2 bailing_hybrid beit cosmos3_edge cosmos3_omni deit "
    "depth_anything depth_pro dinov2 dinov2_with_registers ernie4_5_vl_moe glm5_next "
    "glm5_next_text hy_v3 hyperclovax_vision_v2 ijepa inkling2_text kimi_linear laguna "
    "lfm3_vl lfm3_vl_vision maskformer mistral_large4 mistral_large4_text oneformer pixio "
    "pp_doclayout_v4 prompt_depth_anything rt_detr segformer swin vision-encoder-decoder "
    "vision-text-dual-encoder vit vit_mae vit_msn vivit zoedepth";

constexpr std::string_view kConv1D = "c_attn c_proj c_fc q_attn";

struct Row {
  std::string_view model_type;
  KnownModel model;
};

/// Something differs from the general rules. Ascending.
constexpr auto kExceptions = std::to_array<Row>({
    {"bert", {.heads = "cls.predictions.decoder"}},
    {"biogpt", {.heads = "output_projection"}},
    {"blip-2", {.float_linears = "dense key query value"}},
    {"canary", {.heads = "proj_out"}},
    {"clvp",
     {.float_linears = "speech_encoder_model.projection",
      .linears = "lm_head",
      .transposed = kConv1D}},
    {"cohere_asr", {.heads = "proj_out", .renamed = true, .renamed_inside = true}},
    {"dac", {.float_linears = "codebook"}},
    {"data2vec-audio", {.float_linears = "objective", .linears = "lm_head"}},
    {"decision_transformer", {.linears = "predict_return", .transposed = kConv1D}},
    {"deepseek_v4",
     {.float_linears = "compressor.wkv wgate wo_a", .renamed = true, .renamed_inside = true}},
    {"dia", {.float_linears = "logits_dense"}},
    {"distilbert", {.heads = "vocab_projector"}},
    {"dots3_note", {.linears = "weights_proj", .renamed = true, .renamed_inside = true}},
    {"dots3_note_text", {.linears = "weights_proj", .renamed = true}},
    {"embedding_gemma2", {.float_linears = "embedding_projection"}},
    {"embedding_gemma2_text", {.float_linears = "embedding_projection"}},
    {"falcon", {.float_linears = "dense dense_4h_to_h dense_h_to_4h query_key_value"}},
    {"flaubert", {.heads = "pred_layer.proj"}},
    {"flava",
     {.float_linears = "mmm_text_head.decoder",
      .linears = "mim_head.decoder mmm_image_head.decoder"}},
    {"gpt2", {.transposed = kConv1D}},
    {"gpt_neox_japanese", {.heads = "embed_out"}},
    {"granite_speech5_ctc", {.heads = "ctc_head"}},
    {"granite_speech5_encoder", {.linears = "out"}},
    {"higgs_audio_v2", {.float_linears = "audio_lm_head"}},
    {"hubert", {.linears = "lm_head"}},
    {"hy_v4", {.linears = "weights_proj", .renamed = true, .renamed_inside = true}},
    {"ibert", {.float_linears = "intermediate.dense key output.dense query value"}},
    {"imagegpt", {.transposed = kConv1D}},
    {"inkling2", {.float_linears = "linear_2", .renamed = true, .renamed_inside = true}},
    {"inkling2_vision", {.float_linears = "linear_2"}},
    {"inkling_mm_model", {.float_linears = "encoder", .renamed = true, .renamed_inside = true}},
    {"lasr_ctc", {.linears = "dense_0 dense_1"}},
    {"llama4_vision_model", {.float_linears = "vision_adapter.mlp.fc2"}},
    {"longt5", {.linears = "wo"}},
    {"luke", {.heads = "entity_predictions.decoder"}},
    {"lw_detr", {.float_linears = "query_feat", .renamed = true, .renamed_inside = true}},
    {"mask2former", {.float_linears = "queries_features", .renamed = true, .renamed_inside = true}},
    {"modernbert", {.heads = "decoder"}},
    {"modernbert-decoder", {.heads = "decoder"}},
    {"moonshine", {.heads = "proj_out"}},
    {"nemotron3_5_asr", {.linears = "head"}},
    {"nemotron_asr_streaming", {.linears = "head"}},
    {"neomme",
     {.heads = "lm_head unembedding_projection",
      .float_linears = "model.embed_tokens.embedding_projection"}},
    {"openai-gpt", {.transposed = kConv1D}},
    {"owlv2", {.linears = "owlv2.text_projection"}},
    {"owlvit", {.linears = "owlvit.text_projection"}},
    {"parakeet_rnnt", {.linears = "head"}},
    {"pe_audio", {.float_linears = "proj"}},
    {"pe_audio_encoder", {.float_linears = "output"}},
    {"phi4_multimodal", {.float_linears = "bias_values"}},
    {"pix2struct", {.linears = "wo"}},
    {"qwen2_5_omni", {.linears = "lm_head", .renamed = true}},
    {"qwen3_asr_encoder", {.float_linears = "conv_out"}},
    {"sam3", {.float_linears = "reference_points", .linears = "text_projection"}},
    {"sam3_lite_text", {.float_linears = "reference_points"}},
    {"sam3_lite_text_text_model", {.float_linears = "projection"}},
    {"sam3_video",
     {.float_linears = "reference_points", .linears = "text_projection", .renamed = true}},
    {"sew", {.linears = "lm_head"}},
    {"sew-d", {.linears = "lm_head"}},
    {"slanet", {.linears = "score"}},
    {"slanext", {.linears = "score"}},
    {"speech-encoder-decoder", {.heads = "decoder.cls.predictions.decoder"}},
    {"speecht5", {.float_linears = "pe_k"}},
    {"splinter", {.float_linears = "end_classifier"}},
    {"switch_transformers", {.linears = "wi wo"}},
    {"t5gemma", {.heads = "lm_head.out_proj"}},
    {"t5gemma2", {.heads = "lm_head.out_proj", .renamed = true}},
    {"timesfm2_5",
     {.float_linears = "output_projection_quantiles.residual_layer",
      .renamed = true,
      .renamed_inside = true}},
    {"trocr", {.heads = "output_projection"}},
    {"ultrabert", {.heads = "head.decoder", .renamed = true}},
    {"unispeech", {.linears = "lm_head"}},
    {"unispeech-sat", {.float_linears = "objective", .linears = "lm_head"}},
    {"voxtral_realtime", {.float_linears = "linear_2", .renamed = true}},
    {"wav2vec2", {.float_linears = "objective", .linears = "lm_head"}},
    {"wav2vec2-bert", {.float_linears = "objective"}},
    {"wav2vec2-conformer", {.float_linears = "objective"}},
    {"wavlm", {.float_linears = "objective", .linears = "lm_head"}},
    {"whisper", {.heads = "proj_out"}},
    {"xclip", {.linears = "text_projection"}},
    {"xlm", {.heads = "pred_layer.proj"}},
    {"xlnet", {.heads = "lm_loss"}},
});

constexpr KnownModel kPlain{};
constexpr KnownModel kPlainRenamed{.renamed = true};
constexpr KnownModel kPlainRenamedInside{.renamed = true, .renamed_inside = true};

}  // namespace

const KnownModel* find_known_model(std::string_view model_type) noexcept {
  if (model_type.empty()) return nullptr;
  const auto* row = std::find_if(kExceptions.begin(), kExceptions.end(),
                                 [&](const Row& each) { return each.model_type == model_type; });
  if (row != kExceptions.end()) return &row->model;
  if (has_word(kByTheRules, model_type)) return &kPlain;
  if (has_word(kRenamed, model_type)) return &kPlainRenamed;
  if (has_word(kRenamedInside, model_type)) return &kPlainRenamedInside;
  return nullptr;
}

}  // namespace kvant::io
