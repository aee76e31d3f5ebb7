//! Units of models' files. Inside, lengths are in Å and energies in eV.

use std::fmt;
use std::str::FromStr;

/// A unit that a model's file may be in.
pub trait Unit: Copy + Sized + 'static {
    /// What it is a unit of, for messages.
    const OF: &'static str;
    /// All of them.
    const ALL: &'static [Self];
    /// Its name in files.
    fn name(self) -> &'static str;
    /// Other names that are read.
    fn aliases(self) -> &'static [&'static str];
    /// How many eV or Å it is.
    fn factor(self) -> f64;
}

/// A unit nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown unit of {of} `{found}`, expected one of {expected}")]
pub struct UnknownUnit {
    /// Of what.
    pub of: &'static str,
    /// What was given.
    pub found: String,
    /// The names of all.
    pub expected: String,
}

macro_rules! unit {
    ($(#[$doc:meta])* $type:ident of $of:literal { $($(#[$item:meta])* $unit:ident: $name:literal, $aliases:expr, $factor:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $type { $($(#[$item])* $unit),* }

        impl Unit for $type {
            const OF: &'static str = $of;
            const ALL: &'static [Self] = &[$(Self::$unit),*];
            fn name(self) -> &'static str {
                match self { $(Self::$unit => $name),* }
            }
            fn aliases(self) -> &'static [&'static str] {
                match self { $(Self::$unit => &$aliases),* }
            }
            fn factor(self) -> f64 {
                match self { $(Self::$unit => $factor),* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownUnit;

            fn from_str(text: &str) -> Result<Self, UnknownUnit> {
                let is = |name: &str| name.eq_ignore_ascii_case(text.trim());
                Self::ALL.iter().copied().find(|unit| is(unit.name()) || unit.aliases().iter().any(|name| is(name))).ok_or_else(
                    || UnknownUnit {
                        of: Self::OF,
                        found: text.to_owned(),
                        expected: Self::ALL.iter().map(|unit| unit.name()).collect::<Vec<_>>().join(", "),
                    },
                )
            }
        }
    };
}

unit! {
    /// A unit of energy; factors are of the 2018 CODATA values and, per mole, of the thermochemical calorie.
    Energy of "energy" {
        /// Electronvolt.
        #[default]
        ElectronVolt: "eV", [], 1.0;
        /// Hartree.
        Hartree: "Ha", ["hartree"], 27.211_386_245_988;
        /// Kilocalorie per mole.
        KilocaloriePerMole: "kcal/mol", ["kcal"], 4.184 / 96.485_332_123_310_01;
        /// Kilojoule per mole.
        KilojoulePerMole: "kJ/mol", ["kJ"], 1.0 / 96.485_332_123_310_01;
    }
}

unit! {
    /// A unit of length.
    Length of "length" {
        /// Ångström.
        #[default]
        Angstrom: "Ang", ["A", "Å", "Angstrom"], 1.0;
        /// Bohr radius.
        Bohr: "Bohr", ["a0"], 0.529_177_210_903;
        /// Nanometre.
        Nanometre: "nm", [], 10.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_factors_are_those_of_others() {
        for unit in Energy::ALL {
            assert_eq!(unit.name().parse::<Energy>(), Ok(*unit));
        }
        for unit in Length::ALL {
            assert_eq!(unit.name().parse::<Length>(), Ok(*unit));
        }
        assert_eq!("ANG".parse::<Length>(), Ok(Length::Angstrom));
        // ASE's units.kcal/units.mol, units.kJ/units.mol.
        assert!((Energy::KilocaloriePerMole.factor() - 0.043_364_104_241_800_93).abs() < 1e-9);
        assert!((Energy::KilojoulePerMole.factor() - 0.010_364_269_656_262_174).abs() < 1e-9);
        let error = "furlong".parse::<Length>().unwrap_err().to_string();
        assert_eq!(error, "unknown unit of length `furlong`, expected one of Ang, Bohr, nm");
    }
}
