// libvpx and libaom as encoders of layers, for Python: the caller says for each frame what it is predicted from and
// what it replaces, so that the test knows the truth about every reference. Built by encoders.py.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <aom/aom_encoder.h>
#include <aom/aomcx.h>
#include <vpx/vp8cx.h>
#include <vpx/vpx_encoder.h>

enum codec { VP8, VP9, AV1 };
enum { MAX_LAYERS = 3, SLOTS = 8, QUANTIZER = 36, SPEED = 9 };

// A frame of one spatial layer. Slots are places in the decoder's memory of frames; -1 is none.
struct plan {
  int temporal;
  int previous, lower; // predicted from: a frame of the same layer, the same picture of the layer below
  int replaces;
};

struct encoder {
  enum codec codec;
  int width, height, layers;
  int64_t pictures;
  vpx_codec_ctx_t vpx;
  aom_codec_ctx_t aom;
  struct {
    uint8_t *data;
    size_t size;
  } frames[MAX_LAYERS];
  int count;
};

static void keep(struct encoder *e, const void *data, size_t size) {
  if (e->count == MAX_LAYERS) return;
  e->frames[e->count].data = realloc(e->frames[e->count].data, size);
  memcpy(e->frames[e->count].data, data, size);
  e->frames[e->count++].size = size;
}

static void vp9_layer_done(vpx_codec_cx_pkt_t *packet, void *encoder) {
  keep(encoder, packet->data.frame.buf, packet->data.frame.sz);
}

static int open_vpx(struct encoder *e, int temporal) {
  vpx_codec_iface_t *interface = e->codec == VP8 ? vpx_codec_vp8_cx() : vpx_codec_vp9_cx();
  vpx_codec_enc_cfg_t config;
  if (vpx_codec_enc_config_default(interface, &config, 0)) return -1;
  config.g_w = e->width;
  config.g_h = e->height;
  config.g_timebase.num = 1;
  config.g_timebase.den = 30;
  config.g_threads = 1;
  config.g_lag_in_frames = 0;
  config.kf_mode = VPX_KF_DISABLED;
  config.rc_end_usage = VPX_CBR;
  config.rc_target_bitrate = 4000;
  config.rc_dropframe_thresh = 0;
  config.rc_resize_allowed = 0;
  config.rc_min_quantizer = config.rc_max_quantizer = QUANTIZER;
  if (e->codec == VP9) {
    config.g_error_resilient = VPX_ERROR_RESILIENT_DEFAULT;
    config.ss_number_layers = e->layers;
    config.ts_number_layers = temporal;
    config.temporal_layering_mode = VP9E_TEMPORAL_LAYERING_MODE_BYPASS;
    for (int t = 0; t < temporal; t++) config.ts_rate_decimator[t] = 1 << (temporal - 1 - t);
    for (int s = 0; s < e->layers; s++) config.ss_target_bitrate[s] = 4000 / e->layers;
    for (int i = 0; i < e->layers * temporal; i++)
      config.layer_target_bitrate[i] = 4000 / e->layers * (i % temporal + 1) / temporal;
  }
  if (vpx_codec_enc_init(&e->vpx, interface, &config, 0)) return -1;
  if (vpx_codec_control(&e->vpx, VP8E_SET_CPUUSED, e->codec == VP8 ? -12 : SPEED)) return -1;
  if (e->codec == VP8) return 0;
  vpx_svc_extra_cfg_t svc = {.temporal_layering_mode = VP9E_TEMPORAL_LAYERING_MODE_BYPASS};
  for (int s = 0; s < e->layers; s++) {
    svc.scaling_factor_num[s] = 1;
    svc.scaling_factor_den[s] = 1 << (e->layers - 1 - s);
    svc.speed_per_layer[s] = SPEED;
  }
  for (int i = 0; i < e->layers * temporal; i++) svc.min_quantizers[i] = svc.max_quantizers[i] = QUANTIZER;
  vpx_codec_priv_output_cx_pkt_cb_pair_t callback = {vp9_layer_done, e};
  if (vpx_codec_control(&e->vpx, VP9E_SET_SVC, 1)) return -1;
  if (vpx_codec_control(&e->vpx, VP9E_SET_SVC_PARAMETERS, &svc)) return -1;
  return vpx_codec_control(&e->vpx, VP9E_REGISTER_CX_CALLBACK, &callback) ? -1 : 0;
}

static int open_aom(struct encoder *e, int temporal) {
  aom_codec_enc_cfg_t config;
  if (aom_codec_enc_config_default(aom_codec_av1_cx(), &config, AOM_USAGE_REALTIME)) return -1;
  config.g_w = e->width;
  config.g_h = e->height;
  config.g_timebase.num = 1;
  config.g_timebase.den = 30;
  config.g_threads = 1;
  config.g_lag_in_frames = 0;
  config.kf_mode = AOM_KF_DISABLED;
  config.rc_end_usage = AOM_CBR;
  config.rc_target_bitrate = 4000;
  config.rc_dropframe_thresh = 0;
  config.rc_min_quantizer = config.rc_max_quantizer = QUANTIZER;
  if (aom_codec_enc_init(&e->aom, aom_codec_av1_cx(), &config, 0)) return -1;
  aom_svc_params_t svc = {.number_spatial_layers = e->layers, .number_temporal_layers = temporal};
  for (int s = 0; s < e->layers; s++) {
    svc.scaling_factor_num[s] = 1;
    svc.scaling_factor_den[s] = 1 << (e->layers - 1 - s);
  }
  for (int t = 0; t < temporal; t++) svc.framerate_factor[t] = 1 << (temporal - 1 - t);
  for (int i = 0; i < e->layers * temporal; i++) {
    svc.min_quantizers[i] = svc.max_quantizers[i] = QUANTIZER;
    svc.layer_target_bitrate[i] = 4000 / e->layers * (i % temporal + 1) / temporal;
  }
  if (aom_codec_control(&e->aom, AOME_SET_CPUUSED, SPEED)) return -1;
  if (aom_codec_control(&e->aom, AV1E_SET_AQ_MODE, 0)) return -1;
  return aom_codec_control(&e->aom, AV1E_SET_SVC_PARAMS, &svc) ? -1 : 0;
}

struct encoder *encoder_open(int codec, int width, int height, int layers, int temporal) {
  struct encoder *e = calloc(1, sizeof *e);
  if (!e || layers > MAX_LAYERS) return NULL;
  e->codec = codec;
  e->width = width;
  e->height = height;
  e->layers = layers;
  return (codec == AV1 ? open_aom(e, temporal) : open_vpx(e, temporal)) ? NULL : e;
}

void encoder_close(struct encoder *e) {
  if (e->codec == AV1)
    aom_codec_destroy(&e->aom);
  else
    vpx_codec_destroy(&e->vpx);
  for (int s = 0; s < MAX_LAYERS; s++) free(e->frames[s].data);
  free(e);
}

static int uses(const struct plan *plan, int slot) { return plan->previous == slot || plan->lower == slot; }

static int encode_vp8(struct encoder *e, vpx_image_t *image, int keyframe, const struct plan *plan) {
  static const int no_reference[] = {VP8_EFLAG_NO_REF_LAST, VP8_EFLAG_NO_REF_GF, VP8_EFLAG_NO_REF_ARF};
  static const int no_update[] = {VP8_EFLAG_NO_UPD_LAST, VP8_EFLAG_NO_UPD_GF, VP8_EFLAG_NO_UPD_ARF};
  int flags = keyframe ? VPX_EFLAG_FORCE_KF : 0;
  for (int slot = 0; slot < 3 && !keyframe; slot++) {
    if (!uses(plan, slot)) flags |= no_reference[slot];
    if (plan->replaces != slot) flags |= no_update[slot];
  }
  // What others leave out must not teach the decoder probabilities.
  if (plan->temporal > 0) flags |= VP8_EFLAG_NO_UPD_ENTROPY;
  if (vpx_codec_encode(&e->vpx, image, e->pictures, 1, flags, VPX_DL_REALTIME)) return -1;
  vpx_codec_iter_t at = NULL;
  const vpx_codec_cx_pkt_t *packet;
  while ((packet = vpx_codec_get_cx_data(&e->vpx, &at)))
    if (packet->kind == VPX_CODEC_CX_FRAME_PKT) keep(e, packet->data.frame.buf, packet->data.frame.sz);
  return 0;
}

static int encode_vp9(struct encoder *e, vpx_image_t *image, int keyframe, const struct plan *plans) {
  vpx_svc_ref_frame_config_t references = {0};
  vpx_svc_layer_id_t layer = {0};
  for (int s = 0; s < e->layers; s++) {
    const struct plan *plan = &plans[s];
    layer.temporal_layer_id_per_spatial[s] = layer.temporal_layer_id = plan->temporal;
    references.reference_last[s] = plan->previous >= 0;
    references.lst_fb_idx[s] = plan->previous >= 0 ? plan->previous : 0;
    references.reference_golden[s] = plan->lower >= 0;
    references.gld_fb_idx[s] = plan->lower >= 0 ? plan->lower : 0;
    references.alt_fb_idx[s] = references.gld_fb_idx[s];
    references.update_buffer_slot[s] = plan->replaces >= 0 ? 1 << plan->replaces : 0;
    references.duration[s] = 1;
  }
  if (vpx_codec_control(&e->vpx, VP9E_SET_SVC_LAYER_ID, &layer)) return -1;
  if (vpx_codec_control(&e->vpx, VP9E_SET_SVC_REF_FRAME_CONFIG, &references)) return -1;
  int flags = keyframe ? VPX_EFLAG_FORCE_KF : 0;
  return vpx_codec_encode(&e->vpx, image, e->pictures, 1, flags, VPX_DL_REALTIME) ? -1 : 0;
}

static int encode_av1(struct encoder *e, aom_image_t *image, int keyframe, const struct plan *plans) {
  for (int s = 0; s < e->layers; s++) {
    const struct plan *plan = &plans[s];
    aom_svc_layer_id_t layer = {s, plan->temporal};
    aom_svc_ref_frame_config_t references = {0};
    // LAST is the former frame, GOLDEN the layer below.
    references.reference[0] = plan->previous >= 0;
    references.reference[3] = plan->lower >= 0;
    for (int i = 0; i < 7; i++) references.ref_idx[i] = plan->previous >= 0 ? plan->previous : plan->lower;
    if (plan->lower >= 0) references.ref_idx[3] = plan->lower;
    for (int i = 0; i < 7; i++)
      if (references.ref_idx[i] < 0) references.ref_idx[i] = 0;
    if (plan->replaces >= 0) references.refresh[plan->replaces] = 1;
    if (aom_codec_control(&e->aom, AV1E_SET_SVC_LAYER_ID, &layer)) return -1;
    if (aom_codec_control(&e->aom, AV1E_SET_SVC_REF_FRAME_CONFIG, &references)) return -1;
    int flags = keyframe && s == 0 ? AOM_EFLAG_FORCE_KF : 0;
    if (aom_codec_encode(&e->aom, image, e->pictures, 1, flags)) return -1;
    aom_codec_iter_t at = NULL;
    const aom_codec_cx_pkt_t *packet;
    while ((packet = aom_codec_get_cx_data(&e->aom, &at)))
      if (packet->kind == AOM_CODEC_CX_FRAME_PKT) keep(e, packet->data.frame.buf, packet->data.frame.sz);
  }
  return 0;
}

// Encodes a picture with a plan for each layer; how many frames came out, or -1.
int encoder_encode(struct encoder *e, const uint8_t *i420, int keyframe, const struct plan *plans) {
  int failed;
  e->count = 0;
  if (e->codec == AV1) {
    aom_image_t image;
    aom_img_wrap(&image, AOM_IMG_FMT_I420, e->width, e->height, 1, (uint8_t *)i420);
    failed = encode_av1(e, &image, keyframe, plans);
  } else {
    vpx_image_t image;
    vpx_img_wrap(&image, VPX_IMG_FMT_I420, e->width, e->height, 1, (uint8_t *)i420);
    failed = (e->codec == VP8 ? encode_vp8 : encode_vp9)(e, &image, keyframe, plans);
  }
  e->pictures++;
  return failed ? -1 : e->count;
}

const uint8_t *encoder_frame(const struct encoder *e, int index, size_t *size) {
  *size = e->frames[index].size;
  return e->frames[index].data;
}
