// The help texts, one per topic. The manual page is made from them (minject help man), so that
// there is one source. Text goes to stdout: it is the result that was asked for.
#include "minject/cli.h"

#include <stdio.h>
#include <string.h>

#ifndef MINJECT_VERSION
#    define MINJECT_VERSION "unknown"
#endif

typedef struct help_topic_s {
    const char *name;
    const char *synopsis;
    const char *summary; // one line
    const char *text;
} help_topic_t;

static const help_topic_t topics[] = {
    {"inject", "minject inject [options] file.exe...",
     "put the redirection first in the import table of a program or DLL",
     "The result is name-mi.exe beside the input. The two DLLs (mimalloc-redirect.dll and\n"
     "mimalloc.dll; for x86 mimalloc-redirect32.dll, for ARM64 mimalloc-redirect-arm64.dll)\n"
     "are loaded before every other DLL; copy them beside the result.\n"
     "\n"
     "  -i, --inplace      change the file itself; the original is kept as file.bak\n"
     "      --no-backup    with --inplace: keep no file.bak\n"
     "  -o, --output=file  another name for the result\n"
     "  -f, --force        replace an existing output, drop a signature, change a read-only file\n"
     "      --postfix=p    use mimalloc-p.dll (debug, secure); replaces another variant;\n"
     "                     by itself: mimalloc-debug.dll for programs on a debug runtime\n"
     "\n"
     "Examples:\n"
     "  minject inject game.exe                  makes game-mi.exe\n"
     "  minject inject --inplace --postfix=debug plugin.dll\n"
     "\n"
     "A second inject changes nothing. The command word may be left out: minject game.exe.\n"},
    {"remove", "minject remove [options] file.exe...", "give back the original file, byte for byte",
     "The undo record in the file holds what was changed, also a signature that was taken\n"
     "out. The result is written only when its SHA-256 is that of the original.\n"
     "\n"
     "  -o, --output=file  write the original there; without it the file itself is replaced\n"
     "  -f, --force        replace an existing output, change a read-only file\n"
     "\n"
     "Example:\n"
     "  minject remove game-mi.exe --output=game.exe\n"},
    {"list", "minject list [--verbose] file.exe...", "show the imported DLLs in their order",
     "      --verbose  lists every symbol, too (-v is the version, as in the original tool)\n"
     "\n"
     "Example:\n"
     "  minject --list game-mi.exe\n"},
    {"check", "minject check [options] program.exe [arguments...]",
     "foretell whether a program will be redirected, and say what to do if not",
     "Reads the program and every DLL it needs, as far as they can be found beside it or in\n"
     "the system folder, and judges: is the redirection imported and first, are the DLLs there\n"
     "and of the right build, which C runtimes does each module use, is one linked statically,\n"
     "do debug and release runtimes mix. The verdict comes first, then the reasons, each with\n"
     "a cure, then the modules in the order in which they will be initialised.\n"
     "\n"
     "      --json            the same as JSON (docs/minject.md describes it)\n"
     "      --dll-folder=dir  another folder in which DLLs are looked for\n"
     "      --live            also start the program with the arguments, and compare\n"
     "      --plan            judge the file of a C runtime: what would be patched in it\n"
     "\n"
     "The exit code is the verdict: 0 redirected, 30 only partly, 31 not; with --live 32 when\n"
     "something else happened than was foretold.\n"
     "\n"
     "Example:\n"
     "  minject check game-mi.exe\n"},
    {"run", "minject run [options] program.exe arguments...",
     "start a program redirected, without touching any file",
     "On Windows the import table of the suspended process is changed in memory; on Linux the\n"
     "same is done under Wine, with minject.exe. Options come before the program; standard\n"
     "streams and the exit code are the program's.\n"
     "\n"
     "      --children        redirect the processes that it starts, too\n"
     "      --dll-folder=dir  where the two DLLs are, when not beside the program; may be given\n"
     "                        again, for programs of another machine among the children\n"
     "      --postfix=p       use mimalloc-p.dll\n"
     "\n"
     "Example:\n"
     "  minject run game.exe --windowed\n"},
    {"completion", "minject completion bash|powershell",
     "print a script that completes minject's words",
     "Examples:\n"
     "  source <(minject completion bash)\n"
     "  minject completion powershell | Out-String | Invoke-Expression\n"},
};
#define TOPIC_COUNT (sizeof topics / sizeof topics[0])

static const char common_options[] =
    "  -h, --help     this text; 'minject help inject' tells about one command\n"
    "  -v, --version  the version\n"
    "  -q, --quiet    errors only\n"
    "      --verbose  more about what is done\n"
    "      --progress say how far it is; without it only on a terminal, after a second\n";

static const char notes[] =
    "As in the original tool: minject file.exe injects, -l/--list lists, -i/--inplace,\n"
    "-f/--force and --postfix=name. 'minject help codes' lists the exit codes.\n"
    "Messages go to standard error, results to standard output.\n";

static void print_overview(void) {
    puts("minject: makes a Windows program use mimalloc, and says why when it does not\n\nusage:");
    for (size_t i = 0; i < TOPIC_COUNT; i++)
        printf("  %s\n      %s\n", topics[i].synopsis, topics[i].summary);
    puts("\noptions for all commands:");
    fputs(common_options, stdout);
    printf("\n%s", notes);
}

static void print_codes(void) {
    static const struct {
        int code;
        const char *text;
    } codes[] = {
#define X(name, code, text) {code, text},
        MINJECT_EXIT_CODES(X)
#undef X
    };
    puts("exit codes of minject:");
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        printf("  %3d  %s\n", codes[i].code, codes[i].text);
}

// Text for troff: backslashes and leading dots or quotes are escaped.
static void print_troff(const char *text) {
    bool at_line_start = true;
    for (; *text != 0; text++) {
        if (at_line_start && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
        at_line_start = *text == '\n';
    }
}

static void print_manual(void) {
    printf(".TH MINJECT 1 \"\" \"minject %s\"\n.SH NAME\nminject \\- make a Windows program use "
           "mimalloc\n",
           MINJECT_VERSION);
    puts(".SH SYNOPSIS\n.nf");
    for (size_t i = 0; i < TOPIC_COUNT; i++) {
        print_troff(topics[i].synopsis);
        putchar('\n');
    }
    puts(".fi\n.SH COMMANDS");
    for (size_t i = 0; i < TOPIC_COUNT; i++) {
        printf(".SS %s\n", topics[i].name);
        print_troff(topics[i].summary);
        puts("\n.PP\n.nf");
        print_troff(topics[i].text);
        puts(".fi");
    }
    puts(".SH OPTIONS FOR ALL COMMANDS\n.nf");
    print_troff(common_options);
    puts(".fi\n.SH NOTES\n.nf");
    print_troff(notes);
    puts(".fi\n.SH EXIT STATUS\n.nf");
    print_codes();
    puts(".fi");
}

int cmd_help(const char *topic) {
    static const char *words[TOPIC_COUNT + 3];
    if (topic == NULL) {
        print_overview();
        return EXIT_OK;
    }
    if (strcmp(topic, "codes") == 0) {
        print_codes();
        return EXIT_OK;
    }
    if (strcmp(topic, "man") == 0) {
        print_manual();
        return EXIT_OK;
    }
    for (size_t i = 0; i < TOPIC_COUNT; i++) {
        words[i] = topics[i].name;
        if (strcmp(topic, topics[i].name) != 0)
            continue;
        printf("%s\n\n%s\n\n%s", topics[i].synopsis, topics[i].summary, topics[i].text);
        return EXIT_OK;
    }
    words[TOPIC_COUNT] = "codes";
    words[TOPIC_COUNT + 1] = "man";
    const char *near = cli_suggest(topic, words);
    if (near != NULL)
        say_error("there is no help on '%s'; did you mean '%s'?", topic, near);
    else
        say_error("there is no help on '%s'; 'minject help' shows the commands", topic);
    return EXIT_USAGE;
}

// An option as it is completed: with its values, or with = when any value may follow.
static void print_option(const char *word, const char *before, const char *after) {
    bool is_valued = false;
    for (const char *const *valued = cli_valued_words; *valued != NULL; valued++)
        is_valued = is_valued || strcmp(word, *valued) == 0;
    if (strcmp(word, "--postfix") == 0)
        printf("%s%s=debug%s%s%s=secure%s", before, word, after, before, word, after);
    else
        printf("%s%s%s%s", before, word, is_valued ? "=" : "", after);
}

int cmd_completion(const char *shell) {
    static const char *const shells[] = {"bash", "powershell", NULL};
    bool is_bash = strcmp(shell, "bash") == 0;
    const char *before = is_bash ? " " : "    '";
    const char *after = is_bash ? "" : "',\n";
    const char *near = cli_suggest(shell, shells);
    if (!is_bash && strcmp(shell, "powershell") != 0) {
        say_error("completion for '%s' is not there; there is bash and powershell%s%s", shell,
                  near != NULL ? "; did you mean " : "", near != NULL ? near : "");
        return EXIT_USAGE;
    }
    fputs(is_bash ? "_minject() {\n"
                    "    local word=${COMP_WORDS[COMP_CWORD]}\n"
                    "    if [[ $word == -* ]]; then\n"
                    "        COMPREPLY=($(compgen -W '"
                  : "Register-ArgumentCompleter -Native -CommandName minject -ScriptBlock {\n"
                    "    param($word, $line, $position)\n"
                    "    @(\n",
          stdout);
    for (const char *const *word = cli_option_words; *word != NULL; word++)
        print_option(*word, before, after);
    if (is_bash)
        fputs("' -- \"$word\"))\n"
              "    elif [[ $COMP_CWORD == 1 ]]; then\n"
              "        COMPREPLY=($(compgen -W '",
              stdout);
    for (const char *const *word = cli_command_words; *word != NULL; word++)
        printf("%s%s%s", before, *word, after);
    puts(is_bash ? "' -- \"$word\")\n"
                   "            $(compgen -f -- \"$word\"))\n"
                   "    else\n"
                   "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
                   "    fi\n"
                   "}\n"
                   "complete -o filenames -F _minject minject"
                 : "    '') |\n"
                   "        Where-Object { $_ -ne '' -and $_ -like \"$word*\" } |\n"
                   "        ForEach-Object { "
                   "[System.Management.Automation.CompletionResult]::new($_) }\n"
                   "}");
    return EXIT_OK;
}
