#include "kernels/packed_input.h"

#include "kernels/base3_codes.h"

namespace ti_qat {
namespace {

constexpr int64_t kCodesPerWordRow = int64_t{kPanelChannels} * int64_t{kWordCodes};
constexpr int64_t kCodesPerByte = kBase3Packing;

// The embedding's table is the one packed input whose rows are gathered.
bool is_gathered(const OperatorSpec& spec, size_t index) {
  return std::string(spec.input_names[index]) == "word";
}

void check_base3_bytes(const std::string& where, const Operand& packed) {
  const size_t count = static_cast<size_t>(packed.shape.elements());
  const size_t at = first_illegal_base3(packed.packed(), count);
  if (at == count) return;
  throw OperatorError(where + "byte " + std::to_string(at) + " is " + std::to_string(packed.packed()[at]) +
                      ", and bytes of 243 or more hold no five ternary codes");
}

}  // namespace

void check_packing(const OperatorSpec& spec, int64_t packing) {
  if (packing == kTwoBitPacking || packing == kBase3Packing) return;
  throw OperatorError(std::string(spec.name) + ": packing: expected 4 or 5 codes a byte, found " +
                      std::to_string(packing));
}

PackedInput::PackedInput(const OperatorSpec& spec, size_t index, const Operand& packed, int64_t packing) {
  if (packing == kTwoBitPacking) {
    check_packed_fields(packed);
    return;
  }
  const std::string where = std::string(spec.name) + ": " + spec.input_names[index] + ": ";
  check_base3_bytes(where, packed);
  if (!is_gathered(spec, index)) unpack_panels(where, packed);
}

Operand PackedInput::unpacked() const {
  return {ElementType::kUint8, shape_, bytes_->data()};
}

void PackedInput::unpack_panels(const std::string& where, const Operand& packed) {
  // check_operand has bounded the elements by 2^40, so that no product below passes 64 bits.
  const int64_t panels = packed.shape.dims[0], panel_bytes = packed.shape.back();
  const int64_t words = panel_bytes * kCodesPerByte / kCodesPerWordRow, codes = words * kCodesPerWordRow;
  if (packed.shape.rank != 2 || words < 1 || panel_bytes != (codes + kCodesPerByte - 1) / kCodesPerByte) {
    throw OperatorError(where + "expected shape (panels, ceil(512 words / 5)), found " + packed.shape.text());
  }
  shape_.rank = 4;
  shape_.dims[0] = panels;
  shape_.dims[1] = words;
  shape_.dims[2] = kPanelChannels;
  shape_.dims[3] = kWordBytes;
  bytes_ = std::make_unique<Scratch>(static_cast<size_t>(shape_.elements()));
  for (int64_t panel = 0; panel < panels; ++panel) {
    const uint8_t* from = packed.packed() + panel * panel_bytes;
    if (!base3_padding_is_zero(from, static_cast<size_t>(codes))) {
      throw OperatorError(where + "panel " + std::to_string(panel) + ": expected padding of code 0, found other codes");
    }
    unpack_base3(from, static_cast<size_t>(codes), static_cast<uint8_t*>(bytes_->data()) + panel * (codes / 4));
  }
}

}  // namespace ti_qat
