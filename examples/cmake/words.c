// Counts the different words of standard input: many small blocks, nothing about mimalloc.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct word_s {
    struct word_s *next;
    char text[];
} word_t;

static word_t *table[4096];

static int add(const char *text) {
    unsigned hash = 5381;
    for (const char *p = text; *p != 0; p++)
        hash = hash * 33 + (unsigned char)*p;
    word_t **slot = &table[hash % 4096];
    for (word_t *w = *slot; w != NULL; w = w->next) {
        if (strcmp(w->text, text) == 0)
            return 0;
    }
    word_t *w = (word_t *)malloc(sizeof *w + strlen(text) + 1);
    if (w == NULL)
        exit(1);
    strcpy(w->text, text);
    w->next = *slot;
    *slot = w;
    return 1;
}

int main(void) {
    char text[256];
    int count = 0;
    while (scanf("%255s", text) == 1)
        count += add(text);
    printf("%d different words\n", count);
    return 0;
}
