// Which DLL stands behind an API set, for systems whose own schema is not at hand.
#ifndef MI_MINJECT_API_SETS_H
#define MI_MINJECT_API_SETS_H

typedef struct mi_api_set_row_s {
    const char *name; // without its version, or with one that differs; NULL ends the table
    const char *host;
} mi_api_set_row_t;

extern const mi_api_set_row_t mi_api_set_rows[];

#endif
