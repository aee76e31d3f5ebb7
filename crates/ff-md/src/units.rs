//! Constants of the 2018 CODATA values. ASE's default is the set of 2014, from which they differ by less than 2e-6.

/// Boltzmann's constant, eV/K.
pub const BOLTZMANN: f64 = 8.617_333_262_145_179e-5;
/// One eV/amu in (Å/fs)²: an acceleration in Å/fs² is this times a force in eV/Å over a mass in amu.
pub const EV_PER_AMU: f64 = 1.602_176_634e-19 / 1.660_539_066_60e-27 * 1e-10;
/// One bar in eV/Å³.
pub const BAR: f64 = 1e5 / 1.602_176_634e-19 * 1e-30;

/// A momentum of amu·Å/fs in the unit of ASE, √(amu·eV).
pub fn ase_momentum() -> f64 {
    1.0 / EV_PER_AMU.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_ase_but_for_the_year() {
        for (ours, theirs) in
            [(BOLTZMANN, 8.617330337217213e-05), (EV_PER_AMU.sqrt(), 0.09822694788464063), (BAR, 6.241509125883258e-07)]
        {
            assert!((ours / theirs - 1.0).abs() < 2e-6, "{ours} {theirs}");
        }
    }
}
