#include <kiss_fft.h>
