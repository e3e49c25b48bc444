/* Runs a real Mesos 1.11.0 master + N agents in one process out of the PyPI artefact
 * "mesos.scheduler" (its extension module carries all of libmesos, statically linked).
 * Everything is configured by MESOS_* and LIBPROCESS_* environment variables.
 * cc -rdynamic -w -o mesos-local launch.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* interpreter symbols the extension module names; none of them is ever called here */
#define P(n) long n(void) { fprintf(stderr, "unexpected call: " #n "\n"); abort(); }
P(PyArg_ParseTuple) P(PyDict_GetItemString) P(PyErr_Format) P(PyErr_Occurred) P(PyErr_Print)
P(PyEval_InitThreads) P(PyEval_RestoreThread) P(PyEval_SaveThread) P(PyGILState_Ensure)
P(PyGILState_Release) P(PyImport_ImportModule) P(PyInt_FromLong) P(PyIter_Next) P(PyList_GetItem)
P(PyList_New) P(PyList_SetItem) P(PyList_Size) P(PyModule_AddObject) P(PyModule_GetDict)
P(PyObject_CallMethod) P(PyObject_GetIter) P(PyString_AsStringAndSize) P(PyType_Ready) P(Py_InitModule4_64)
void *PyExc_Exception, *PyExc_TypeError;
char _Py_NoneStruct[256];

struct cxxstr { char *p; size_t n; char buf[16]; };      /* libstdc++ std::string, small */
struct optstr { int none; int pad; struct cxxstr s; };   /* Option<string>: 0 = some, 1 = none */
static void some(struct optstr *o, const char *v) {
  memset(o, 0, sizeof *o); o->s.p = o->s.buf; o->s.n = strlen(v); strcpy(o->s.buf, v);
}
static void *need(void *h, const char *n) {
  void *f = dlsym(h, n); if (!f) { fprintf(stderr, "no symbol %s\n", n); exit(1); } return f;
}
int main(int argc, char **argv) {
  if (argc < 2) { fprintf(stderr, "usage: %s _scheduler.so\n", argv[0]); return 2; }
  void *h = dlopen(argv[1], RTLD_LAZY | RTLD_GLOBAL);
  if (!h) { fprintf(stderr, "%s\n", dlerror()); return 1; }
  const char *S = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
  char name[300];
  snprintf(name, sizeof name, "_ZN7process10initializeERK6OptionI%sES9_S9_", S);
  int (*init)(void *, void *, void *) = dlsym(h, name);
  struct optstr delegate, none1 = {1}, none2 = {1};
  some(&delegate, "master");                              /* "/x" is then served as "/master/x" */
  if (init) init(&delegate, &none1, &none2); else fprintf(stderr, "note: no delegate, use /master/...\n");
  void (*ctor)(void *) = need(h, "_ZN5mesos8internal5local5FlagsC1Ev");
  void (*launch)(void *, void *, void *) = need(h, "_ZN5mesos8internal5local6launchERKNS1_5FlagsEPNS_9allocator9AllocatorE");
  char *flags = calloc(1, 1 << 16), *pid = calloc(1, 1 << 12);
  ctor(flags);                                            /* work_dir=<tmp>/mesos/work, num_slaves=1 */
  const char *n = getenv("TWISTER2_MESOS_AGENTS"), *w = getenv("TWISTER2_MESOS_WORK");
  /* the two members follow the base part; find them by their default values instead of guessing an offset */
  for (size_t i = 0; i + 40 <= (1 << 12); i += 8) {
    struct cxxstr *s = (struct cxxstr *)(flags + i);
    int *k = (int *)(flags + i + 32);
    if (s->n > 10 && s->n < 300 && s->p > (char *)4096 && *k == 1 && (s->n < 16 ? s->p == s->buf : 1)
        && !memcmp(s->p + s->n - 10, "mesos/work", 10)) {
      if (w) { s->p = strdup(w); s->n = strlen(w); }
      if (n) *k = atoi(n);
      break;
    }
  }
  launch(pid, flags, 0);
  fprintf(stderr, "launched\n");
  for (;;) pause();
}
