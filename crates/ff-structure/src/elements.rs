//! Chemical symbols and masses.

/// Symbols in order of atomic number; index 0 is hydrogen.
const SYMBOLS: &str = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr \
    Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re \
    Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh \
    Fl Mc Lv Ts Og";

/// The largest atomic number with a name.
pub const MAX_ATOMIC_NUMBER: u8 = 118;

/// Standard atomic weights in amu (IUPAC 2016, as ASE has them), in order of atomic number; of elements without one the mass of a
/// long-lived isotope.
#[rustfmt::skip]
const MASSES: [f64; MAX_ATOMIC_NUMBER as usize] = [
    1.008, 4.002_602, 6.94, 9.012_183_1, 10.81, 12.011, 14.007, 15.999, 18.998_403_163, 20.1797, 22.989_769_28,
    24.305, 26.981_538_5, 28.085, 30.973_761_998, 32.06, 35.45, 39.948, 39.0983, 40.078, 44.955_908, 47.867,
    50.9415, 51.9961, 54.938_044, 55.845, 58.933_194, 58.6934, 63.546, 65.38, 69.723, 72.63, 74.921_595, 78.971,
    79.904, 83.798, 85.4678, 87.62, 88.90584, 91.224, 92.90637, 95.95, 97.90721, 101.07, 102.9055, 106.42, 107.8682,
    112.414, 114.818, 118.71, 121.76, 127.6, 126.90447, 131.293, 132.905_451_96, 137.327, 138.90547, 140.116,
    140.90766, 144.242, 144.91276, 150.36, 151.964, 157.25, 158.92535, 162.5, 164.93033, 167.259, 168.93422,
    173.054, 174.9668, 178.49, 180.94788, 183.84, 186.207, 190.23, 192.217, 195.084, 196.966_569, 200.592, 204.38,
    207.2, 208.9804, 208.98243, 209.98715, 222.01758, 223.01974, 226.02541, 227.02775, 232.0377, 231.03588,
    238.02891, 237.04817, 244.06421, 243.06138, 247.07035, 247.07031, 251.07959, 252.083, 257.09511, 258.09843,
    259.101, 262.11, 267.122, 268.126, 271.134, 270.133, 269.1338, 278.156, 281.165, 281.166, 285.177, 286.182,
    289.19, 289.194, 293.204, 293.208, 294.214,
];

/// The mass of an element in amu, if it has one: its standard atomic weight, or that of a long-lived isotope.
pub fn mass(atomic_number: u8) -> Option<f64> {
    MASSES.get(usize::from(atomic_number).checked_sub(1)?).copied()
}

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
    fn masses_are_in_order_of_atomic_number() {
        let of = |symbol: &str| atomic_number(symbol).and_then(mass);
        let expected =
            [("H", 1.008), ("O", 15.999), ("Ar", 39.948), ("Au", 196.966_569), ("U", 238.028_91), ("Og", 294.214)];
        for (symbol, mass) in expected {
            assert_eq!(of(symbol), Some(mass), "{symbol}");
        }
        assert_eq!((mass(0), mass(119)), (None, None));
    }

    #[test]
    fn symbols_and_numbers_are_inverse() {
        for z in 1..=MAX_ATOMIC_NUMBER {
            assert_eq!(symbol(z).and_then(atomic_number), Some(z));
        }
        assert_eq!((symbol(0), symbol(119), atomic_number("Xx")), (None, None, None));
        assert_eq!((atomic_number("C"), atomic_number("CL"), atomic_number("pb")), (Some(6), Some(17), Some(82)));
    }
}
