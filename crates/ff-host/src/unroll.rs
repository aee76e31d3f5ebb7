/// A loop of constant length up to 8 that is unrolled before any optimisation, so that arrays of registers indexed by its
/// counter stay in registers.
///
/// The bound is compared in a constant: what lies beyond it is never handed to LLVM, which would spend most of a build on
/// bodies that it then finds to be dead.
macro_rules! unroll {
    ($i:ident in 0..$n:expr => $body:block) => {{
        unroll!(@step $i, $n, $body, 0, 1, 2, 3, 4, 5, 6, 7);
    }};
    (@step $i:ident, $n:expr, $body:block, $($at:literal),*) => {
        $(if const { $at < $n } {
            let $i = $at;
            $body
        })*
    };
}
