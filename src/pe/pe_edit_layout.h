// The format of the undo header, shared by the two halves of the editor.
#ifndef MI_PE_PE_EDIT_LAYOUT_H
#define MI_PE_PE_EDIT_LAYOUT_H

#define MI_PE_UNDO_MAGIC        "MINJECT1"
#define MI_PE_UNDO_HEADER_BYTES 96u
#define MI_PE_UNDO_FORMAT       1u
#define MI_PE_DESCRIPTOR_BYTES  20u

#endif
