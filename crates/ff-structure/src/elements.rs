//! Chemical symbols.

/// Symbols in order of atomic number; index 0 is hydrogen.
const SYMBOLS: &str = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr \
    Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re \
    Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh \
    Fl Mc Lv Ts Og";

/// The largest atomic number with a name.
pub const MAX_ATOMIC_NUMBER: u8 = 118;

/// The atomic number of a symbol in any case (`Cl`, `CL`, `cl`).
pub fn atomic_number(symbol: &str) -> Option<u8> {
    let index = SYMBOLS.split_whitespace().position(|s| s.eq_ignore_ascii_case(symbol))?;
    u8::try_from(index + 1).ok()
}

/// The symbol of an atomic number, if it has one.
pub fn symbol(atomic_number: u8) -> Option<&'static str> {
    SYMBOLS.split_whitespace().nth(usize::from(atomic_number).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_numbers_are_inverse() {
        for z in 1..=MAX_ATOMIC_NUMBER {
            assert_eq!(symbol(z).and_then(atomic_number), Some(z));
        }
        assert_eq!((symbol(0), symbol(119), atomic_number("Xx")), (None, None, None));
        assert_eq!((atomic_number("C"), atomic_number("CL"), atomic_number("pb")), (Some(6), Some(17), Some(82)));
    }
}
