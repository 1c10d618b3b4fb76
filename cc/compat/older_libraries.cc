// Lets a library that was linked on a new system load on one of 2018 (glibc
// 2.28, GCC 8): what newer headers and linkers ask for is here, made of what is
// there since long. None of it is seen from outside of the library.
#include <cstddef>  // __GLIBC__

#if defined(__x86_64__) && defined(__GLIBC__)

#define TFO_HERE(symbol) __asm__(symbol) __attribute__((visibility("hidden")))
#define TFO_OLD(name, symbol, version) \
  __asm__(".symver " #name "," symbol "@" version)

extern "C" {

// glibc 2.32: whether there is but one thread. "No" is always right.
extern char tfo_single_threaded TFO_HERE("__libc_single_threaded");
char tfo_single_threaded = 0;

// glibc 2.29 has a pow that does not set errno in the same cases.
double tfo_old_pow(double, double);
TFO_OLD(tfo_old_pow, "pow", "GLIBC_2.2.5");
double tfo_pow(double x, double y) TFO_HERE("pow");
double tfo_pow(double x, double y) { return tfo_old_pow(x, y); }

// Moved from libpthread into libc by glibc 2.34.
int tfo_old_once(int*, void (*)());
TFO_OLD(tfo_old_once, "pthread_once", "GLIBC_2.2.5");
int tfo_once(int* control, void (*f)()) TFO_HERE("pthread_once");
int tfo_once(int* control, void (*f)()) { return tfo_old_once(control, f); }

// GCC 12: std::condition_variable::wait(lock) that is noexcept.
void tfo_old_wait(void*, void*);
TFO_OLD(tfo_old_wait,
        "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE",
        "GLIBCXX_3.4.11");
void tfo_wait(void* variable, void* lock)
    TFO_HERE("_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE");
void tfo_wait(void* variable, void* lock) { tfo_old_wait(variable, lock); }

// GCC 11: std::allocator was asked for more than there is.
void tfo_old_bad_alloc() __asm__("_ZSt17__throw_bad_allocv");
void tfo_bad_length() TFO_HERE("_ZSt28__throw_bad_array_new_lengthv");
void tfo_bad_length() { tfo_old_bad_alloc(); }

// GCC 12: the two halves of std::exception_ptr, which were not seen before. A
// copy adds a reference, and is left alone; a destructor takes one away.
void tfo_old_copy(void*, const void*) __asm__(
    "_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
void tfo_add_reference(void* pointer)
    TFO_HERE("_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv");
void tfo_add_reference(void* pointer) {
  void* copy;
  tfo_old_copy(&copy, pointer);
}
void tfo_old_destroy(void*) __asm__(
    "_ZNSt15__exception_ptr13exception_ptrD1Ev");
void tfo_release(void* pointer)
    TFO_HERE("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
void tfo_release(void* pointer) { tfo_old_destroy(pointer); }

}  // extern "C"

#endif
