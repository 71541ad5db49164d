// A plain C entry that measures the int8 peak of one thread: what the runtime holds a model's speed against.
#pragma once

extern "C" {

// Multiply-accumulates a second that the int8 dot product of instruction set `isa` ("" for the automatic choice)
// reaches on registers: the best of a few slices, 50 ms in all, on the calling thread. -1 if this machine cannot run
// it.
__attribute__((visibility("default"))) double ti_qat_int8_peak_macs_per_second(const char* isa);
}
