/* The part of Triton's C API that calls.py declares to cffi: types, constants and functions as in
   NVIDIA's tritonserver.h, whose comments explain them
   (https://github.com/triton-inference-server/core/blob/r24.10/include/triton/core/tritonserver.h).
   The wheel that carries libtritonserver has no header. */

typedef struct TRITONSERVER_Error TRITONSERVER_Error;
typedef struct TRITONSERVER_InferenceRequest TRITONSERVER_InferenceRequest;
typedef struct TRITONSERVER_InferenceResponse TRITONSERVER_InferenceResponse;
typedef struct TRITONSERVER_InferenceTrace TRITONSERVER_InferenceTrace;
typedef struct TRITONSERVER_Message TRITONSERVER_Message;
typedef struct TRITONSERVER_ResponseAllocator TRITONSERVER_ResponseAllocator;
typedef struct TRITONSERVER_Server TRITONSERVER_Server;
typedef struct TRITONSERVER_ServerOptions TRITONSERVER_ServerOptions;

typedef int TRITONSERVER_DataType;
typedef int TRITONSERVER_MemoryType;
typedef int TRITONSERVER_ModelControlMode;
#define TRITONSERVER_MEMORY_CPU 0
#define TRITONSERVER_MODEL_CONTROL_EXPLICIT 2
#define TRITONSERVER_RESPONSE_COMPLETE_FINAL 1

/* Errors: NULL is success; anything else has a text, and belongs to the caller. */
const char *TRITONSERVER_ErrorCodeString(TRITONSERVER_Error *);
const char *TRITONSERVER_ErrorMessage(TRITONSERVER_Error *);
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error *);

TRITONSERVER_Error *TRITONSERVER_ApiVersion(uint32_t *major, uint32_t *minor);
const char *TRITONSERVER_DataTypeString(TRITONSERVER_DataType);
TRITONSERVER_DataType TRITONSERVER_StringToDataType(const char *name);

/* Messages: JSON. */
TRITONSERVER_Error *TRITONSERVER_MessageSerializeToJson(
    TRITONSERVER_Message *, const char **base, size_t *byte_size);
TRITONSERVER_Error *TRITONSERVER_MessageDelete(TRITONSERVER_Message *);

/* The options of a server: what the command line of tritonserver has. */
TRITONSERVER_Error *TRITONSERVER_ServerOptionsNew(TRITONSERVER_ServerOptions **);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsDelete(TRITONSERVER_ServerOptions *);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetModelRepositoryPath(
    TRITONSERVER_ServerOptions *, const char *path);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetBackendDirectory(
    TRITONSERVER_ServerOptions *, const char *path);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetBackendConfig(
    TRITONSERVER_ServerOptions *, const char *backend, const char *setting, const char *value);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetModelConfigName(
    TRITONSERVER_ServerOptions *, const char *name);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetModelControlMode(
    TRITONSERVER_ServerOptions *, TRITONSERVER_ModelControlMode);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetPinnedMemoryPoolByteSize(
    TRITONSERVER_ServerOptions *, uint64_t);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetGpuMetrics(TRITONSERVER_ServerOptions *, bool);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetLogFile(
    TRITONSERVER_ServerOptions *, const char *path);
TRITONSERVER_Error *TRITONSERVER_ServerOptionsSetExitTimeout(
    TRITONSERVER_ServerOptions *, unsigned int seconds);

/* A server. */
TRITONSERVER_Error *TRITONSERVER_ServerNew(TRITONSERVER_Server **, TRITONSERVER_ServerOptions *);
TRITONSERVER_Error *TRITONSERVER_ServerDelete(TRITONSERVER_Server *);
TRITONSERVER_Error *TRITONSERVER_ServerIsReady(TRITONSERVER_Server *, bool *ready);
TRITONSERVER_Error *TRITONSERVER_ServerLoadModel(TRITONSERVER_Server *, const char *model);
TRITONSERVER_Error *TRITONSERVER_ServerUnloadModel(TRITONSERVER_Server *, const char *model);
TRITONSERVER_Error *TRITONSERVER_ServerMetadata(TRITONSERVER_Server *, TRITONSERVER_Message **);
TRITONSERVER_Error *TRITONSERVER_ServerModelStatistics(
    TRITONSERVER_Server *, const char *model, int64_t version, TRITONSERVER_Message **);

/* A request. */
TRITONSERVER_Error *TRITONSERVER_InferenceRequestNew(
    TRITONSERVER_InferenceRequest **, TRITONSERVER_Server *, const char *model, int64_t version);
TRITONSERVER_Error *TRITONSERVER_InferenceRequestDelete(TRITONSERVER_InferenceRequest *);
TRITONSERVER_Error *TRITONSERVER_InferenceRequestAddInput(
    TRITONSERVER_InferenceRequest *, const char *name, TRITONSERVER_DataType,
    const int64_t *shape, uint64_t dim_count);
TRITONSERVER_Error *TRITONSERVER_InferenceRequestAppendInputData(
    TRITONSERVER_InferenceRequest *, const char *name, const void *base, size_t byte_size,
    TRITONSERVER_MemoryType, int64_t memory_type_id);
TRITONSERVER_Error *TRITONSERVER_InferenceRequestSetReleaseCallback(
    TRITONSERVER_InferenceRequest *,
    void (*release)(TRITONSERVER_InferenceRequest *, uint32_t flags, void *userp), void *userp);
TRITONSERVER_Error *TRITONSERVER_InferenceRequestSetResponseCallback(
    TRITONSERVER_InferenceRequest *, TRITONSERVER_ResponseAllocator *, void *allocator_userp,
    void (*respond)(TRITONSERVER_InferenceResponse *, uint32_t flags, void *userp), void *userp);
TRITONSERVER_Error *TRITONSERVER_ServerInferAsync(
    TRITONSERVER_Server *, TRITONSERVER_InferenceRequest *, TRITONSERVER_InferenceTrace *);

/* The memory of responses, which comes from the caller. */
TRITONSERVER_Error *TRITONSERVER_ResponseAllocatorNew(
    TRITONSERVER_ResponseAllocator **,
    TRITONSERVER_Error *(*allocate)(
        TRITONSERVER_ResponseAllocator *, const char *tensor, size_t byte_size,
        TRITONSERVER_MemoryType, int64_t memory_type_id, void *userp, void **buffer,
        void **buffer_userp, TRITONSERVER_MemoryType *actual, int64_t *actual_id),
    TRITONSERVER_Error *(*release)(
        TRITONSERVER_ResponseAllocator *, void *buffer, void *buffer_userp, size_t byte_size,
        TRITONSERVER_MemoryType, int64_t memory_type_id),
    TRITONSERVER_Error *(*start)(TRITONSERVER_ResponseAllocator *, void *userp));
TRITONSERVER_Error *TRITONSERVER_ResponseAllocatorDelete(TRITONSERVER_ResponseAllocator *);

/* A response. Its error belongs to it. */
TRITONSERVER_Error *TRITONSERVER_InferenceResponseError(TRITONSERVER_InferenceResponse *);
TRITONSERVER_Error *TRITONSERVER_InferenceResponseOutputCount(
    TRITONSERVER_InferenceResponse *, uint32_t *count);
TRITONSERVER_Error *TRITONSERVER_InferenceResponseOutput(
    TRITONSERVER_InferenceResponse *, uint32_t index, const char **name,
    TRITONSERVER_DataType *, const int64_t **shape, uint64_t *dim_count, const void **base,
    size_t *byte_size, TRITONSERVER_MemoryType *, int64_t *memory_type_id, void **userp);
TRITONSERVER_Error *TRITONSERVER_InferenceResponseDelete(TRITONSERVER_InferenceResponse *);
