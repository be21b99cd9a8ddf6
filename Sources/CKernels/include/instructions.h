// Which vector instructions a kernel uses. All kernels of a path give the same bits as those of another unless their
// header says otherwise.
#pragma once

typedef enum { InstructionsPortable = 0, InstructionsAVX2 = 1, InstructionsAVX512 = 2 } Instructions;

/// The widest instructions of this processor for which kernels exist.
Instructions bestInstructions(void);

/// Whether this processor computes vectors of 512 bits as two of 256. Kernels that mostly put such vectors together are faster there with 256.
int splitsWideVectors(void);

/// Cores this process may run on, at least 1.
int availableCores(void);
