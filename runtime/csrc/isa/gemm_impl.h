// The fused GEMMs of the kernel interface over one function, which the including file defines:
//   template <class Epilogue> void gemm(const GemmArgs&, const Epilogue&) noexcept
#pragma once

#include "isa/functions.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {

void gemm_s32(const GemmArgs& g, int32_t* c, ptrdiff_t ldc) noexcept { gemm(g, StoreS32{c, ldc}); }
void gemm_dequantize_panels(const GemmArgs& g, const Dequantize& d, float* out,
                            ptrdiff_t ld_panel) noexcept {
  gemm(g, DequantizePanels{d.scale, d.bias, out, ld_panel});
}
void gemm_dequantize_residual(const GemmArgs& g, const Dequantize& d, const float* residual,
                              float* out, ptrdiff_t ld) noexcept {
  gemm(g, DequantizeResidual{d.scale, d.bias, residual, out, ld});
}
void gemm_dequantize_gelu_quantize(const GemmArgs& g, const Dequantize& d, const Quantize& q,
                                   uint8_t* out, ptrdiff_t ldo) noexcept {
  gemm(g, DequantizeGeluQuantize{d.scale, d.bias, q.mult, q.zero_point, out, ldo});
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
