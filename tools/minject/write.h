// Writing results of any size through a small buffer, with progress for what takes long.
#ifndef MI_MINJECT_WRITE_H
#define MI_MINJECT_WRITE_H

#include "minject/cli.h"
#include "pe/pe_sha256.h"

// Work that may take long: said on a terminal after the first second, with --progress always.
typedef struct progress_s {
    const cli_t *cli;
    const char *what;    // the file
    uint64_t total;      // bytes to go through, over all passes
    uint64_t done;       // bytes
    uint64_t started_ms; // plat_milliseconds
    uint64_t shown_ms;   // when it was last shown, 0 = never
    bool is_terminal;
} progress_t;

void progress_begin(progress_t *p, const cli_t *cli, const char *what, uint64_t total);
void progress_add(progress_t *p, uint64_t bytes);
void progress_end(progress_t *p);

// Bytes that can be asked for window by window.
typedef struct source_s {
    void (*read)(const void *from, uint64_t at, uint8_t *out, size_t bytes);
    const void *from;
    uint64_t bytes;
} source_t;

source_t source_of_file(const plat_file_t *file);
// Goes through a source once, in windows of an even length.
bool source_is_same(const source_t *source, const plat_file_t *file);
void source_hash(const source_t *source, uint8_t digest[MI_SHA256_BYTES], progress_t *p);
uint64_t source_checksum(const source_t *source, progress_t *p);

// Writes a source into the begun file; hash_opt takes in what is written. Not EXIT_OK: the message
// is out and the file aborted.
minject_exit_t write_source(plat_out_t *out, const source_t *source, mi_sha256_t *hash_opt,
                            progress_t *p);
// plat_out_begin and plat_out_commit with their messages; a failed commit aborts.
minject_exit_t write_begin(plat_out_t *out, const char *path);
minject_exit_t write_commit(plat_out_t *out, const char *like);
// With --verbose: how many bytes all of the above have gone through.
void write_tell(const cli_t *cli, const char *path);
// All of it for a file in memory.
minject_exit_t write_file(const cli_t *cli, const char *path, const plat_file_t *file,
                          const char *like);

#endif
