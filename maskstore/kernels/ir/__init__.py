"""Everything that is written in LLVM IR: vector primitives and the loops made of them."""
