/* Answers texts or files with an exported model through the TensorFlow C API alone.

       c_client MODEL_DIR INPUT OUTPUT LIBRARY... -- TEXT...
       c_client MODEL_DIR INPUT OUTPUT LIBRARY... --files FILE...

   INPUT and OUTPUT are the tensors of the signature, such as serving_default_text:0 and
   StatefulPartitionedCall:0, as `saved_model_cli show` prints them; both are string [N]. LIBRARY
   is a .so of tensorflow_text with ops of the model. Of a FILE, as a WAV file, the model gets the
   bytes. Prints one answer a line. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static TF_Status *status;

/* Ends the program if the call before failed. */
static void check(const char *what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

/* Finds the tensor "operation:index" in the graph. */
static TF_Output find(TF_Graph *graph, const char *tensor) {
  char operation[256];
  int index = 0;
  TF_Output found = {NULL, 0};
  if (sscanf(tensor, "%255[^:]:%d", operation, &index) >= 1) {
    found.oper = TF_GraphOperationByName(graph, operation);
    found.index = index;
  }
  if (found.oper == NULL) {
    fprintf(stderr, "The model has no tensor %s.\n", tensor);
    exit(1);
  }
  return found;
}

/* Copies the bytes of a file into a string. */
static void copy_file(TF_TString *string, const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    perror(path);
    exit(1);
  }
  size_t size = ftell(file);
  rewind(file);
  char *bytes = malloc(size + 1);
  if (bytes == NULL || fread(bytes, 1, size, file) != size) {
    perror(path);
    exit(1);
  }
  fclose(file);
  TF_StringCopy(string, bytes, size);
  free(bytes);
}

static TF_Tensor *string_tensor(char **texts, int64_t count, int are_files) {
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, &count, 1, count * sizeof(TF_TString));
  TF_TString *strings = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; i++) {
    TF_StringInit(&strings[i]);
    if (are_files)
      copy_file(&strings[i], texts[i]);
    else
      TF_StringCopy(&strings[i], texts[i], strlen(texts[i]));
  }
  return tensor;
}

int main(int argc, char **argv) {
  int dashes = 4;
  while (dashes < argc && strncmp(argv[dashes], "--", 2) != 0) dashes++;
  int are_files = dashes < argc && strcmp(argv[dashes], "--files") == 0;
  if (dashes >= argc || (!are_files && strcmp(argv[dashes], "--") != 0)) {
    fprintf(stderr, "usage: c_client MODEL_DIR INPUT OUTPUT LIBRARY... -- TEXT...\n"
                    "       c_client MODEL_DIR INPUT OUTPUT LIBRARY... --files FILE...\n");
    return 2;
  }
  status = TF_NewStatus();
  for (int i = 4; i < dashes; i++) { /* registers the ops; they stay for the whole process */
    TF_LoadLibrary(argv[i], status);
    check(argv[i]);
  }

  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tag = "serve";
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], &tag, 1, graph, NULL, status);
  check(argv[1]);

  TF_Output input = find(graph, argv[2]), output = find(graph, argv[3]);
  TF_Tensor *texts = string_tensor(argv + dashes + 1, argc - dashes - 1, are_files);
  TF_Tensor *answers = NULL;
  TF_SessionRun(session, NULL, &input, &texts, 1, &output, &answers, 1, NULL, 0, NULL, status);
  check("run");

  const TF_TString *strings = TF_TensorData(answers);
  for (int64_t i = 0; i < TF_TensorElementCount(answers); i++) {
    fwrite(TF_StringGetDataPointer(&strings[i]), 1, TF_StringGetSize(&strings[i]), stdout);
    putchar('\n');
  }

  TF_DeleteTensor(texts); /* frees the strings too */
  TF_DeleteTensor(answers);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
