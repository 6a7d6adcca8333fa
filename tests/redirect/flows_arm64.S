// Every ARM64 instruction after which control may not go on with the next one, and their likes. Never run: for the decoder.
    .arch armv9-a+hbc
    .text
first:
    b first
    bl last
    b.eq first
    b.al last
    bc.ne first
    cbz x0, first
    cbnz w30, last
    tbz x1, #63, first
    tbnz w2, #3, last
    br x16
    blr x8
    ret
    ret x1
    braa x1, x2
    brab x3, sp
    braaz x4
    brabz x5
    blraa x6, x7
    blrab x8, x9
    blraaz x10
    blrabz x11
    retaa
    retab
    eret
    eretaa
    eretab
    brk #0xF000
    hlt #1
    udf #0
    udf #65535
    // These go on.
    svc #0
    hint #32
    paciasp
    autibsp
    bti c
    adr x0, first
    adrp x1, first
    ldr x2, first
    ldrsw x3, last
    ldr d4, first
    ldr q5, last
    prfm pldl1keep, first
    b last
last:
    nop
