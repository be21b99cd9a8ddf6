#include <string.h>
#include <wels/codec_api.h>

// The library's structures hold arrays of structures, which Swift sees as tuples; they stay on this side.

/// Constant quality, one thread, an intra picture every second at most; nil where the library refuses.
static inline ISVCEncoder *h264Open(int width, int height, float rate, int quantizer) {
    ISVCEncoder *encoder = 0;
    if (WelsCreateSVCEncoder(&encoder) != 0 || !encoder) return 0;
    int quiet = WELS_LOG_QUIET;
    (*encoder)->SetOption(encoder, ENCODER_OPTION_TRACE_LEVEL, &quiet);
    SEncParamExt p;
    (*encoder)->GetDefaultParams(encoder, &p);
    p.iUsageType = CAMERA_VIDEO_REAL_TIME;
    p.iPicWidth = width; p.iPicHeight = height;
    p.fMaxFrameRate = rate;
    p.iRCMode = RC_OFF_MODE;
    p.iTargetBitrate = 50000000;
    p.iMinQp = quantizer; p.iMaxQp = quantizer;
    p.uiIntraPeriod = rate < 1 ? 1 : (unsigned int)rate;
    p.eSpsPpsIdStrategy = CONSTANT_ID;
    p.iMultipleThreadIdc = 1;
    p.bEnableFrameSkip = false;
    p.bEnableDenoise = false; p.bEnableBackgroundDetection = false; p.bEnableAdaptiveQuant = false; p.bEnableSceneChangeDetect = false;
    SSpatialLayerConfig *layer = &p.sSpatialLayers[0];
    layer->iVideoWidth = width; layer->iVideoHeight = height;
    layer->fFrameRate = rate;
    layer->iSpatialBitrate = p.iTargetBitrate;
    layer->iDLayerQp = quantizer;
    layer->sSliceArgument.uiSliceMode = SM_SINGLE_SLICE;
    // BT.709, as sRGB's primaries; 16 … 235, the range that every player knows.
    layer->bVideoSignalTypePresent = true;
    layer->uiVideoFormat = 5;
    layer->bFullRange = false;
    layer->bColorDescriptionPresent = true;
    layer->uiColorPrimaries = 1; layer->uiTransferCharacteristics = 1; layer->uiColorMatrix = 1;
    if ((*encoder)->InitializeExt(encoder, &p) != 0) { WelsDestroySVCEncoder(encoder); return 0; }
    int format = videoFormatI420;
    (*encoder)->SetOption(encoder, ENCODER_OPTION_DATAFORMAT, &format);
    return encoder;
}

static inline void h264Close(ISVCEncoder *encoder) {
    (*encoder)->Uninitialize(encoder);
    WelsDestroySVCEncoder(encoder);
}

/// One picture of 4:2:0 planes without padding. Bytes of the byte stream (Annex B), at most `room` of which are written; negative on failure.
static inline long h264Encode(ISVCEncoder *encoder, unsigned char *planes, int width, int height, long long milliseconds, unsigned char *bytes, long room) {
    SSourcePicture picture;
    SFrameBSInfo info;
    memset(&picture, 0, sizeof picture);
    memset(&info, 0, sizeof info);
    picture.iColorFormat = videoFormatI420;
    picture.iPicWidth = width; picture.iPicHeight = height;
    picture.iStride[0] = width; picture.iStride[1] = picture.iStride[2] = width / 2;
    picture.pData[0] = planes;
    picture.pData[1] = planes + (long)width * height;
    picture.pData[2] = picture.pData[1] + (long)(width / 2) * (height / 2);
    picture.uiTimeStamp = milliseconds;
    if ((*encoder)->EncodeFrame(encoder, &picture, &info) != 0) return -1;
    long total = 0;
    for (int l = 0; l < info.iLayerNum; l++) {
        long size = 0;
        for (int n = 0; n < info.sLayerInfo[l].iNalCount; n++) size += info.sLayerInfo[l].pNalLengthInByte[n];
        if (total + size > room) return -1;
        memcpy(bytes + total, info.sLayerInfo[l].pBsBuf, size);
        total += size;
    }
    return total;
}
