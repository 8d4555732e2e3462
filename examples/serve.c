/* Scores events with an exported model by TensorFlow's C API: no Python, as in the software of an experiment.

   The headers and libraries are those of the pip package tensorflow:

       TF=$(python -c "import importlib.util as u; print(u.find_spec('tensorflow').submodule_search_locations[0])")
       gcc -O2 serve.c -o serve -I$TF/include -L$TF -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,$TF

   Names of tensors are in what `zoo show served --json` prints, under graph. For a model of 42 features:

       ./serve served serving_default_features StatefulPartitionedCall:3 42 < events.f32

   Standard input has the features of the events, float32 in the order of the columns, 42 for each. A score is printed for each,
   one a line. Two more numbers, BATCH and REPEAT, score batches of that size, all of the input REPEAT times, and tell on standard
   error the microseconds that the fastest call took. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensorflow/c/c_api.h"

static void check(TF_Status *status, const char *what) {
    if (TF_GetCode(status) != TF_OK) {
        fprintf(stderr, "%s: %s\n", what, TF_Message(status));
        exit(2);
    }
}

/* Find the tensor of a name such as StatefulPartitionedCall:3; without a number it is output 0. */
static TF_Output tensor_of(TF_Graph *graph, const char *name) {
    char operation[256];
    const char *colon = strchr(name, ':');
    int length = colon ? (int)(colon - name) : (int)strlen(name);
    snprintf(operation, sizeof operation, "%.*s", length, name);
    TF_Output found = {TF_GraphOperationByName(graph, operation), colon ? atoi(colon + 1) : 0};
    if (!found.oper) {
        fprintf(stderr, "%s: no such tensor; see `zoo show SAVED_MODEL --json`\n", name);
        exit(2);
    }
    return found;
}

static float *read_all(size_t *values) {
    size_t room = 1 << 16;
    float *all = malloc(room * sizeof *all);
    *values = 0;
    for (size_t found; (found = fread(all + *values, sizeof *all, room - *values, stdin)) > 0;)
        if ((*values += found) == room) all = realloc(all, (room *= 2) * sizeof *all);
    return all;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: serve SAVED_MODEL INPUT OUTPUT FEATURES [BATCH [REPEAT]] < events.f32\n");
        return 2;
    }
    int64_t features = atoll(argv[4]);
    size_t values;
    float *events = read_all(&values);
    int64_t number = values / features;
    int64_t batch = argc > 5 ? atoll(argv[5]) : number;
    int repeat = argc > 6 ? atoi(argv[6]) : 1;
    if (features < 1 || batch < 1 || number < 1 || values % features) {
        fprintf(stderr, "%zu numbers are no events of %lld features\n", values, (long long)features);
        return 2;
    }

    TF_Status *status = TF_NewStatus();
    TF_Graph *graph = TF_NewGraph();
    TF_SessionOptions *options = TF_NewSessionOptions();
    const char *tags[] = {"serve"};
    TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
    check(status, argv[1]);
    TF_Output input = tensor_of(graph, argv[2]), output = tensor_of(graph, argv[3]);

    double fastest = 1e9;
    for (int turn = 0; turn < repeat; turn++)
        for (int64_t start = 0; start < number; start += batch) {
            int64_t size = start + batch < number ? batch : number - start;
            int64_t shape[] = {size, features};
            TF_Tensor *given = TF_AllocateTensor(TF_FLOAT, shape, 2, size * features * sizeof(float)), *scores = NULL;
            memcpy(TF_TensorData(given), events + start * features, size * features * sizeof(float));
            double began = now();
            TF_SessionRun(session, NULL, &input, &given, 1, &output, &scores, 1, NULL, 0, NULL, status);
            check(status, argv[3]);
            double took = now() - began;
            if (size == batch && took < fastest) fastest = took;
            const float *found = TF_TensorData(scores);
            for (int64_t i = 0; i < size && turn == 0; i++) printf("%.9g\n", found[i]);
            TF_DeleteTensor(given);
            TF_DeleteTensor(scores);
        }
    if (argc > 6) fprintf(stderr, "%.1f us\n", 1e6 * fastest);

    TF_CloseSession(session, status);
    TF_DeleteSession(session, status);
    TF_DeleteSessionOptions(options);
    TF_DeleteGraph(graph);
    TF_DeleteStatus(status);
    free(events);
    return 0;
}
