#include "minject/write.h"

#include <stdio.h>
#include <string.h>

#define WINDOW_BYTES  (1u << 20) // stays in the cache between being made, hashed and written
#define PATIENCE_MS   1000u      // before progress is said
#define SHOW_EVERY_MS 100u
#define PERCENT_STEP  10u // between lines that do not go to a terminal

static uint8_t window[WINDOW_BYTES]; // one thread
static uint64_t moved_bytes;         // that went through the window since the start

// ---- progress ----

void progress_begin(progress_t *p, const cli_t *cli, const char *what, uint64_t total) {
    *p = (progress_t){.cli = cli, .what = what, .total = total != 0 ? total : 1};
    p->started_ms = plat_milliseconds();
    p->is_terminal = plat_is_terminal(2);
}

static unsigned percent_of(const progress_t *p, uint64_t done) {
    return (unsigned)(done >= p->total ? 100 : done * 100 / p->total);
}

void progress_add(progress_t *p, uint64_t bytes) {
    unsigned before = percent_of(p, p->done);
    p->done += bytes;
    unsigned now = percent_of(p, p->done);
    uint64_t ms = plat_milliseconds();
    if (p->is_terminal) {
        bool is_long = p->cli->is_progress || ms - p->started_ms >= PATIENCE_MS;
        if (p->cli->is_quiet || !is_long || ms - p->shown_ms < SHOW_EVERY_MS)
            return;
        fprintf(stderr, "\rminject: %s: %3u%%", p->what, now);
        p->shown_ms = ms;
    } else if (p->cli->is_progress && now / PERCENT_STEP > before / PERCENT_STEP) {
        fprintf(stderr, "minject: %s: %3u%%\n", p->what, now / PERCENT_STEP * PERCENT_STEP);
    }
}

void progress_end(progress_t *p) {
    if (p->is_terminal && p->shown_ms != 0)
        fputs("\r\033[K", stderr);
    p->shown_ms = 0;
}

// ---- sources ----

static void read_memory(const void *from, uint64_t at, uint8_t *out, size_t bytes) {
    memcpy(out, (const uint8_t *)from + at, bytes);
}

source_t source_of_file(const plat_file_t *file) {
    return (source_t){read_memory, file->bytes, file->size};
}

// The next window, its length; 0 = the end.
static size_t next_window(const source_t *source, uint64_t at) {
    uint64_t rest = source->bytes - at;
    size_t n = rest < WINDOW_BYTES ? (size_t)rest : WINDOW_BYTES;
    if (n != 0)
        source->read(source->from, at, window, n);
    moved_bytes += n;
    return n;
}

void write_tell(const cli_t *cli, const char *path) {
    say_note(cli, "%s: %llu bytes gone through so far", path, (unsigned long long)moved_bytes);
}

bool source_is_same(const source_t *source, const plat_file_t *file) {
    if (source->bytes != file->size)
        return false;
    for (uint64_t at = 0, n = 0; (n = next_window(source, at)) != 0; at += n) {
        if (memcmp(window, file->bytes + at, (size_t)n) != 0)
            return false;
    }
    return true;
}

void source_hash(const source_t *source, uint8_t digest[MI_SHA256_BYTES], progress_t *p) {
    mi_sha256_t hash;
    mi_sha256_begin(&hash);
    for (uint64_t at = 0, n = 0; (n = next_window(source, at)) != 0; at += n) {
        mi_sha256_add(&hash, window, (size_t)n);
        progress_add(p, n);
    }
    mi_sha256_end(&hash, digest);
}

uint64_t source_checksum(const source_t *source, progress_t *p) {
    uint64_t sum = 0;
    for (uint64_t at = 0, n = 0; (n = next_window(source, at)) != 0; at += n) {
        sum = mi_pe_checksum_add(sum, window, (size_t)n);
        progress_add(p, n);
    }
    return sum;
}

// ---- writing ----

static minject_exit_t say_unwritable(const plat_out_t *out, plat_status_t status) {
    if (plat_is_in_use(out->target)) {
        say_error("%s: cannot be written, another program has it open or runs it; end that program "
                  "first, or choose another place with --output",
                  out->target);
        return EXIT_IN_USE;
    }
    say_error("%s: cannot be written: %s; choose another place with --output", out->target,
              status == PLAT_DIRECTORY ? "is a folder" : plat_last_error());
    return EXIT_UNWRITABLE;
}

minject_exit_t write_begin(plat_out_t *out, const char *path) {
    plat_status_t status = plat_out_begin(out, path);
    return status == PLAT_OK ? EXIT_OK : say_unwritable(out, status);
}

minject_exit_t write_source(plat_out_t *out, const source_t *source, mi_sha256_t *hash_opt,
                            progress_t *p) {
    for (uint64_t at = 0, n = 0; (n = next_window(source, at)) != 0; at += n) {
        if (hash_opt != NULL)
            mi_sha256_add(hash_opt, window, (size_t)n);
        plat_status_t status = plat_out_write(out, window, (size_t)n);
        if (status != PLAT_OK) {
            progress_end(p);
            minject_exit_t rc = say_unwritable(out, status);
            plat_out_abort(out);
            return rc;
        }
        progress_add(p, n);
    }
    return EXIT_OK;
}

minject_exit_t write_commit(plat_out_t *out, const char *like) {
    plat_status_t status = plat_out_commit(out, like);
    if (status == PLAT_OK)
        return EXIT_OK;
    minject_exit_t rc = say_unwritable(out, status);
    plat_out_abort(out);
    return rc;
}

minject_exit_t write_file(const cli_t *cli, const char *path, const plat_file_t *file,
                          const char *like) {
    plat_out_t out;
    progress_t p;
    const source_t source = source_of_file(file);
    minject_exit_t rc = write_begin(&out, path);
    if (rc != EXIT_OK)
        return rc;
    progress_begin(&p, cli, path, file->size);
    rc = write_source(&out, &source, NULL, &p);
    progress_end(&p);
    return rc == EXIT_OK ? write_commit(&out, like) : rc;
}
