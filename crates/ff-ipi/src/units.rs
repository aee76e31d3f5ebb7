//! Atomic units, in which everything is sent.
//!
//! The values are those of ASE, of CODATA 2014: what goes to ASE and comes back is what it was. i-PI's own have eight
//! digits.

/// The Bohr radius in Å.
pub const BOHR: f64 = 0.529_177_210_563_841_1;

/// The Hartree in eV.
pub const HARTREE: f64 = 27.211_386_024_367_243;
