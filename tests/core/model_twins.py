#!/usr/bin/env python3
"""Makes the broken twins of the abandon and adopt protocol for model_adopt.c: copies of a source of src/core with one
change each. A change whose text is not in the source exactly once is an error: then the source has moved on, and the
twin must follow.

  model_twins.py list                    the names
  model_twins.py make NAME SRC FILE      writes the changed copy
"""
import pathlib
import sys

STEP = "mi_model_step(NULL, true);"
TWINS = {
    # The freeing thread does not look whether the page changed hands while it pushed it.
    "no-recheck": ("remote.c", [("return mi_load_acquire(&page->theap) == theap; // with mi_page_set_owner",
                                 "return true;")]),
    # The thief does not look at the orphan's stack again once the page is its own.
    "no-last-look": ("orphan.c", [("""        mi_remote_collect(orphan);
        mi_fetch_add_relaxed(&orphan_stolen, 1);""", "        mi_fetch_add_relaxed(&orphan_stolen, 1);")]),
    # Check, then act: the orphan is looked for under the lock, and taken without it.
    "claim-split": ("orphan.c", [("""    heap->orphan_first = theap->list_next;
    if (""", f"""    mi_unlock(&mi_life_lock);
    (void){STEP}
    mi_lock(&mi_life_lock);
    heap->orphan_first = theap->list_next;
    if (""")]),
    # The thread heap is for everybody to adopt before its thread has sent home what it holds back.
    "abandon-early": ("life.c", [("""    mi_orphan_tidy(theap, false);
    mi_lock(&mi_life_lock);
    mi_orphan_leave(theap);
    mi_unlock(&mi_life_lock);""", """    mi_lock(&mi_life_lock);
    mi_orphan_leave(theap);
    mi_unlock(&mi_life_lock);
    mi_orphan_tidy(theap, false);""")]),
    # The push of a block without release order: others see it before its link.
    "link-after-push": ("remote.c", [("""        mi_block_set_next_far(page, tail, is_first ? NULL : old);
        // Release""", """        // Release"""), ("""    } while (!mi_cas_weak_acq_rel(&page->remote, &old, head));
""", f"""    }} while (!mi_cas_weak_acq_rel(&page->remote, &old, head));
    (void){STEP}
    mi_block_set_next_far(page, tail, is_first ? NULL : old);
""")]),
    # What a thief is done with goes back to the list without the lock.
    "return-unlocked": ("orphan.c", [("""    mi_lock(&mi_life_lock);
    mi_orphan_leave(theap);
    mi_unlock(&mi_life_lock);""", "    mi_orphan_leave(theap);"), ("""    heap->orphan_last = theap;
    mi""", f"""    (void){STEP}
    heap->orphan_last = theap;
    mi""")]),
    # A thread ends and keeps what it held back of others' blocks.
    "no-flush": ("orphan.c", [("""    mi_remote_flush(theap, all);
    mi_remote_collect(theap);""", "    (void)all;\n    mi_remote_collect(theap);"),
                              ("""        mi_remote_flush(theap, true);
}""", """        (void)0;
}""")]),
    # Who gives back the memory of a sleeper's blocks pushes its pages on the stack of a thread heap that they have left.
    "sleeper-astray": ("sleep.c", [("""        if (owner != NULL)
            mi_remote_push_pending(owner, page);""", """        if (owner != NULL) {
            page->pending_next = mi_load_relaxed(&sleeper->pending);
            mi_store_release(&sleeper->pending, page);
        }""")]),
    # Those whose names begin with large- concern pages with one block; only the scenes with such are walked.
    # A page with one block is said to be alone although a block of it was freed meanwhile.
    "large-open-blind": ("remote.c", [("""        (void)mi_cas_strong_acq_rel(&page->remote, &nothing, MI_REMOTE_ALONE);
""", f"""        if (mi_load_relaxed(&page->remote) == nothing) {{
            (void){STEP}
            mi_store_release(&page->remote, MI_REMOTE_ALONE);
        }}
""")]),
    # The owner frees the block itself, and the page stays open while it serves again.
    "large-open-for-ever": ("theap.c", [("        mi_remote_close(page);\n", ""),
                                         ("    mi_remote_close(page);\n    theap_keep", "    theap_keep")]),
    # A page is open while its class allocates from it.
    "large-open-current": ("theap.c", [("""    theap_set_current(theap, page->class_index, page);
    theap_demote""", """    theap_set_current(theap, page->class_index, page);
    if (page->reserved == 1)
        mi_remote_open(page);
    theap_demote""")]),
    # A block that is pushed on an open page takes it for one with a list.
    "large-push-on-open": ("remote.c", [("is_first = (old == NULL || old == MI_REMOTE_ALONE);",
                                   "is_first = (old == NULL);")]),
    # Two threads count the pages that they gave back of one thread heap.
    "large-give-count-split": ("page.c", [("    mi_fetch_add_release(&owner->far_released, (size_t)1);\n",
                                     f"""    const size_t before = mi_load_relaxed(&owner->far_released);
    (void){STEP}
    mi_store_release(&owner->far_released, before + 1);
""")]),
    # Those whose names begin with guest- concern blocks that threads keep for themselves.
    # A thread heap without pages is recycled with blocks that were of use to it.
    "guest-pool": ("orphan.c", [("""        mi_remote_flush(theap, true);
}""", """        (void)0;
}""")]),
    # Each orphan is asked for its empty pages before the next has let go of blocks in them.
    "guest-collect": ("orphan.c", [("    (void)mi_orphan_visit(heap, orphan_flush, NULL);", "    (void)orphan_flush;"),
                                  ("""    (void)arg;
    mi_remote_collect(orphan);""", """    (void)arg;
    mi_remote_flush(orphan, true);
    mi_remote_collect(orphan);""")]),
    # An orphan without pages goes to the pool although it was put back to the list.
    "left-twice": ("orphan.c", [("""    if (mi_theap_pages(theap) == 0)
        mi_life_pool_put(theap);
    else
        mi_orphan_put(theap);""", """    if (mi_theap_pages(theap) == 0)
        mi_life_pool_put(theap);
    mi_orphan_put(theap);""")]),
}


def main():
    if sys.argv[1] == "list":
        print(";".join(TWINS))
        return
    _, _, name, source, out = sys.argv
    file_name, changes = TWINS[name]
    text = (pathlib.Path(source) / file_name).read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise SystemExit(f"twin {name}: {file_name} does not have this text exactly once:\n{old}")
        text = text.replace(old, new)
    target = pathlib.Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


main()
