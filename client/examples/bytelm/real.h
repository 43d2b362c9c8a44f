/* real.h - the number type of bytelm's model: float for training, double where the tests compare
 * gradients with finite differences. Knows nothing else. */
#ifndef BL_REAL_H
#define BL_REAL_H

#ifdef BL_DOUBLE
typedef double real;
#define BL_REAL_BYTES 8
#else
typedef float real;
#define BL_REAL_BYTES 4
#endif

#endif
