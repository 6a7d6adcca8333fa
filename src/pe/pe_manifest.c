#include "pe/pe_manifest.h"
#include "base/text.h"

#include <string.h>

void mi_manifest_open(mi_manifest_t *m, const void *text, size_t bytes) {
    *m = (mi_manifest_t){(const char *)text, bytes, 0, false};
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool word_is(const char *s, size_t n, const char *word) {
    for (size_t i = 0; i < n; i++) {
        if (word[i] == 0 || s[i] != word[i])
            return false;
    }
    return word[n] == 0;
}

// The end of the tag or comment that begins at m->at (a '<'): the offset behind its '>'.
static size_t tag_end(const mi_manifest_t *m) {
    bool is_comment = m->bytes - m->at >= 4 && word_is(m->text + m->at, 4, "<!--");
    char quote = 0;
    for (size_t i = m->at + (is_comment ? 4 : 1); i < m->bytes; i++) {
        char c = m->text[i];
        if (is_comment) {
            if (c == '>' && m->text[i - 1] == '-' && m->text[i - 2] == '-' && i >= m->at + 6)
                return i + 1;
        } else if (quote != 0) {
            quote = c == quote ? 0 : quote;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '>') {
            return i + 1;
        }
    }
    return m->bytes;
}

// One attribute of a tag's text, from *at; false = no more.
static bool next_attribute(const char *s, size_t n, size_t *at, size_t span[4]) {
    size_t i = *at;
    while (i < n && (is_space(s[i]) || s[i] == '/'))
        i++;
    span[0] = i;
    while (i < n && s[i] != '=' && !is_space(s[i]))
        i++;
    span[1] = i - span[0];
    while (i < n && (is_space(s[i]) || s[i] == '='))
        i++;
    if (i >= n || (s[i] != '"' && s[i] != '\''))
        return false;
    char quote = s[i++];
    span[2] = i;
    while (i < n && s[i] != quote)
        i++;
    span[3] = i - span[2];
    *at = i + 1;
    return i < n;
}

// false = there is no such attribute, or it is too long.
static bool read_attribute(const char *s, size_t n, const char *name, char out[MI_PE_TOKEN_BYTES]) {
    size_t at = 0;
    size_t span[4];
    while (next_attribute(s, n, &at, span)) {
        if (!word_is(s + span[0], span[1], name) || span[3] >= MI_PE_TOKEN_BYTES)
            continue;
        memcpy(out, s + span[2], span[3]);
        out[span[3]] = 0;
        return true;
    }
    return false;
}

static void read_identity(const char *s, size_t n, mi_assembly_t *out) {
    read_attribute(s, n, "name", out->name);
    read_attribute(s, n, "version", out->version);
    read_attribute(s, n, "processorArchitecture", out->machine);
    read_attribute(s, n, "publicKeyToken", out->token);
}

// The next tag inside a <dependentAssembly>: its name without prefix is at s, its attributes from
// `behind` on, up to n. false = no more.
typedef struct tag_s {
    const char *s;
    size_t name;   // offset of the name
    size_t behind; // and behind it
    size_t n;
} tag_t;

static bool next_tag(mi_manifest_t *m, tag_t *t) {
    while (m->at < m->bytes) {
        if (m->text[m->at] != '<') {
            m->at++;
            continue;
        }
        size_t end = tag_end(m);
        const char *s = m->text + m->at + 1;
        size_t n = end - m->at - 1;
        m->at = end;
        bool is_closing = n > 0 && *s == '/';
        size_t name = is_closing ? 1 : 0;
        size_t behind = name;
        for (; behind < n && !is_space(s[behind]) && s[behind] != '>' && s[behind] != '/'; behind++)
            name = s[behind] == ':' ? behind + 1 : name; // a prefix of a name space
        if (name > behind)
            name = behind;
        if (word_is(s + name, behind - name, "dependentAssembly"))
            m->is_dependent = !is_closing;
        else if (m->is_dependent && !is_closing) {
            *t = (tag_t){s, name, behind, n};
            return true;
        }
    }
    return false;
}

static bool tag_is(const tag_t *t, const char *word) {
    return word_is(t->s + t->name, t->behind - t->name, word);
}

bool mi_manifest_next(mi_manifest_t *m, mi_assembly_t *out) {
    tag_t t;
    while (next_tag(m, &t)) {
        if (!tag_is(&t, "assemblyIdentity"))
            continue;
        *out = (mi_assembly_t){{0}, {0}, {0}, {0}};
        read_identity(t.s + t.behind, t.n - t.behind, out);
        if (out->name[0] != 0)
            return true;
    }
    return false;
}

// ---- UTF-16 ----

static bool is_big_endian(const uint8_t *b) {
    return (b[0] == 0xFE && b[1] == 0xFF) || (b[0] == 0 && b[1] == '<');
}

bool mi_manifest_is_utf16(const void *text, size_t bytes) {
    const uint8_t *b = (const uint8_t *)text;
    return bytes >= 2 &&
           ((b[0] == 0xFF && b[1] == 0xFE) || (b[0] == '<' && b[1] == 0) || is_big_endian(b));
}

// A unit of a surrogate pair becomes three bytes of its own: names of assemblies have none.
size_t mi_manifest_to_utf8(const void *text, size_t bytes, char *out) {
    const uint8_t *b = (const uint8_t *)text;
    size_t high = is_big_endian(b) ? 0 : 1;
    size_t n = 0;
    for (size_t i = 0; i + 2 <= bytes; i += 2) {
        uint32_t c = (uint32_t)b[i + high] << 8 | b[i + 1 - high];
        if (c < 0x80) {
            out[n++] = (char)c;
        } else if (c < 0x800) {
            out[n++] = (char)(0xC0 | c >> 6);
            out[n++] = (char)(0x80 | (c & 0x3F));
        } else if (c != 0xFEFF) {
            out[n++] = (char)(0xE0 | c >> 12);
            out[n++] = (char)(0x80 | (c >> 6 & 0x3F));
            out[n++] = (char)(0x80 | (c & 0x3F));
        }
    }
    return n;
}

// ---- policies ----

// Four numbers, from *text on, which is moved behind them.
static bool read_version(const char **text, uint64_t *out) {
    const char *s = *text;
    *out = 0;
    for (int part = 0; part < 4; part++) {
        uint32_t value = 0;
        if (part != 0 && *s++ != '.')
            return false;
        if (*s < '0' || *s > '9')
            return false;
        for (; *s >= '0' && *s <= '9'; s++) {
            value = value * 10 + (uint32_t)(*s - '0');
            if (value > 0xFFFF)
                return false;
        }
        *out = *out << 16 | value;
    }
    *text = s;
    return true;
}

bool mi_manifest_version(const char *text, uint64_t *out) {
    return read_version(&text, out) && *text == 0;
}

// "9.0.0.0-9.0.21022.8" or a single version.
static bool range_has(const char *range, uint64_t version) {
    uint64_t low;
    uint64_t high;
    if (!read_version(&range, &low))
        return false;
    high = low;
    if (*range == '-') {
        range++;
        if (!read_version(&range, &high))
            return false;
    }
    return *range == 0 && low <= version && version <= high;
}

bool mi_manifest_redirect(const void *text, size_t bytes, mi_assembly_t *a) {
    mi_manifest_t m;
    mi_assembly_t named = {{0}, {0}, {0}, {0}};
    char from[MI_PE_TOKEN_BYTES];
    char to[MI_PE_TOKEN_BYTES];
    uint64_t version;
    uint64_t target;
    tag_t t;
    if (!mi_manifest_version(a->version, &version))
        return false;
    mi_manifest_open(&m, text, bytes);
    while (next_tag(&m, &t)) {
        const char *attributes = t.s + t.behind;
        size_t n = t.n - t.behind;
        if (tag_is(&t, "assemblyIdentity")) {
            named = (mi_assembly_t){{0}, {0}, {0}, {0}};
            read_identity(attributes, n, &named);
        } else if (tag_is(&t, "bindingRedirect") && mi_str_eq_nocase(named.name, a->name) &&
                   read_attribute(attributes, n, "oldVersion", from) && range_has(from, version) &&
                   read_attribute(attributes, n, "newVersion", to) &&
                   mi_manifest_version(to, &target)) {
            memcpy(a->version, to, sizeof to);
            return true;
        }
    }
    return false;
}
