//! Labelled frames of structure files: what a model is fitted to, and what it is compared with.
//!
//! Labels are read under a spelling: a prefix of [`PREFIXES`] and, for each of them, the names of [`Label::names`]. The spelling of a
//! file is that of its first labelled frame, and all of its labels are read under it, so that reference and prediction that stand
//! in one file are never mixed. Keys that are given replace the search.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use ff_model::stress::stress;
use ff_model::units::{Energy, Length, Unit};
use ff_structure::{Frame, FrameReader, Structure, StructureError, StructureWarning, elements};

/// What may stand before the name of a label; the first that a file has is its spelling.
pub const PREFIXES: [&str; 5] = ["REF_", "ref_", "DFT_", "dft_", ""];

/// 1 eV/Å³ in GPa.
pub const GPA: f64 = 160.217_663_4;

/// A quantity that frames are labelled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The energy of a frame, a key.
    Energy,
    /// The force on each atom, a column of three numbers.
    Forces,
    /// The stress (∂E/∂ε)/V, a key; tension positive.
    Stress,
    /// The virial −∂E/∂ε, a key, read where no stress is there.
    Virial,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Energy, Self::Forces, Self::Stress, Self::Virial];

    /// The names it is looked for under, after a prefix; the first that a frame has is read.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Energy => &["energy", "Energy", "total_energy", "TotEnergy", "free_energy"],
            Self::Forces => &["forces", "force", "Forces"],
            Self::Stress => &["stress"],
            Self::Virial => &["virial", "virials"],
        }
    }

    /// What messages call it.
    fn noun(self) -> &'static str {
        match self {
            Self::Energy => "energy",
            Self::Forces => "forces",
            Self::Stress | Self::Virial => "stress or virial",
        }
    }

    /// Whether a frame has it under a key.
    fn is_in(self, frame: &Frame, key: &str) -> bool {
        match self {
            Self::Forces => frame.column(key).is_some(),
            Self::Energy | Self::Stress | Self::Virial => frame.value(key).is_some(),
        }
    }
}

/// Keys that labels are read under, instead of being looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The energy's key.
    pub energy: Option<String>,
    /// The forces' column.
    pub forces: Option<String>,
    /// The stress's key.
    pub stress: Option<String>,
    /// The virial's key.
    pub virial: Option<String>,
}

impl Keys {
    fn of(&self, label: Label) -> Option<&str> {
        match label {
            Label::Energy => self.energy.as_deref(),
            Label::Forces => self.forces.as_deref(),
            Label::Stress => self.stress.as_deref(),
            Label::Virial => self.virial.as_deref(),
        }
    }
}

/// The unit of stresses in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StressUnit {
    /// The file's unit of energy over its unit of length cubed.
    #[default]
    OfTheOthers,
    /// Gigapascal.
    Gigapascal,
    /// Kilobar.
    Kilobar,
}

impl std::str::FromStr for StressUnit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "energy/length3" => Ok(Self::OfTheOthers),
            "gpa" => Ok(Self::Gigapascal),
            "kbar" | "kb" => Ok(Self::Kilobar),
            _ => Err(format!("unknown unit of stress `{text}`, expected one of energy/length3, GPa, kbar")),
        }
    }
}

/// Units of a file: of positions, cells and labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Of energies; a force is one over the length.
    pub energy: Energy,
    /// Of lengths.
    pub length: Length,
    /// Of stresses; a virial is an energy.
    pub stress: StressUnit,
}

/// Labels that every frame must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Required {
    /// An energy.
    pub energy: bool,
    /// Forces.
    pub forces: bool,
    /// A stress, where the frame is periodic and has a volume.
    pub stress: bool,
}

/// How labelled frames are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelOptions {
    /// Keys that are given.
    pub keys: Keys,
    /// Units of the file.
    pub units: Units,
    /// What every frame must have.
    pub required: Required,
}

/// A structure with its labels, in eV and Å.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// The atoms.
    pub structure: Structure,
    /// The frame of its file, counted from 1.
    pub frame: usize,
    /// Energy in eV.
    pub energy: Option<f64>,
    /// Forces in eV/Å, `[n_atoms]`.
    pub forces: Option<Vec<[f64; 3]>>,
    /// Stress in eV/Å³, tension positive; of slabs and chains along their periodic directions, of molecules none.
    pub stress: Option<[[f64; 3]; 3]>,
}

/// Why labelled frames cannot be read. Frames are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// A file that cannot be read, or a label that is not finite numbers, as many as there have to be.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// A frame without a label that it must have.
    #[error("{}: frame {frame}: expected a label of {label} ({expected}), found {found}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The frame.
        frame: usize,
        /// What is missing.
        label: &'static str,
        /// The keys that were looked for.
        expected: String,
        /// The keys and columns that the frame has.
        found: String,
    },
    /// A frame whose labels are spelled otherwise than those before it.
    #[error(
        "{}: frame {frame}: expected labels spelled as in frame {first} (`{expected}`), found `{found}` alone; \
         give the keys to read",
        path.display()
    )]
    Spelling {
        /// The file.
        path: PathBuf,
        /// The frame.
        frame: usize,
        /// The frame that set the spelling.
        first: usize,
        /// A key of it.
        expected: String,
        /// The key that this frame has.
        found: String,
    },
    /// A file none of whose frames has a label.
    #[error("{}: expected labelled frames ({expected}), found none among {frames}", path.display())]
    Unlabelled {
        /// The file.
        path: PathBuf,
        /// The keys that were looked for.
        expected: String,
        /// Frames of the file.
        frames: usize,
    },
}

/// The labelled frames of a file, one by one. After an error there are no further ones.
///
/// A frame without any label is given without; a file of nothing else is an error at its end.
pub struct LabelReader {
    reader: FrameReader,
    path: PathBuf,
    options: LabelOptions,
    spelling: Option<Spelling>,
    frames: usize,
    /// Whether any frame had a label.
    labelled: bool,
    ended: bool,
}

/// What labels of a file are called.
struct Spelling {
    prefix: &'static str,
    /// The key that set it, and its frame.
    key: String,
    frame: usize,
}

impl LabelReader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`LabelError::Structure`].
    pub fn open(path: impl AsRef<Path>, options: LabelOptions) -> Result<Self, LabelError> {
        let path = path.as_ref().to_owned();
        let reader = FrameReader::open(&path)?;
        Ok(Self { reader, path, options, spelling: None, frames: 0, labelled: false, ended: false })
    }

    /// What a user should be told about the frames so far, each thing once.
    pub fn warnings(&self) -> &[StructureWarning] {
        self.reader.warnings()
    }

    fn advance(&mut self) -> Result<Option<Labelled>, LabelError> {
        let Some(frame) = self.reader.next().transpose()? else {
            if self.labelled {
                return Ok(None);
            }
            let expected = Label::ALL.map(|label| self.sought(label)).join(", ");
            return Err(LabelError::Unlabelled { path: self.path.clone(), expected, frames: self.frames });
        };
        self.frames += 1;
        self.spell(&frame)?;
        let labelled = self.labelled(frame)?;
        self.labelled |= labelled.energy.is_some() || labelled.forces.is_some() || labelled.stress.is_some();
        Ok(Some(labelled))
    }

    /// Finds the spelling of the file, and refuses frames that have another.
    fn spell(&mut self, frame: &Frame) -> Result<(), LabelError> {
        let sought = || Label::ALL.into_iter().filter(|label| self.options.keys.of(*label).is_none());
        let key_in = |prefix: &'static str| {
            let keys =
                sought().flat_map(|label| label.names().iter().map(move |name| (label, format!("{prefix}{name}"))));
            let mut found = keys.filter(|(label, key)| label.is_in(frame, key));
            found.next().map(|(_, key)| (prefix, key))
        };
        let Some(spelling) = &self.spelling else {
            let found = PREFIXES.into_iter().find_map(key_in);
            self.spelling = found.map(|(prefix, key)| Spelling { prefix, key, frame: self.frames });
            return Ok(());
        };
        if key_in(spelling.prefix).is_some() {
            return Ok(());
        }
        match PREFIXES.into_iter().find_map(key_in) {
            None => Ok(()),
            Some((_, found)) => Err(LabelError::Spelling {
                path: self.path.clone(),
                frame: self.frames,
                first: spelling.frame,
                expected: spelling.key.clone(),
                found,
            }),
        }
    }

    /// The key that a frame has a label under.
    fn key(&self, frame: &Frame, label: Label) -> Option<String> {
        if let Some(key) = self.options.keys.of(label) {
            return label.is_in(frame, key).then(|| key.to_owned());
        }
        let prefix = self.spelling.as_ref()?.prefix;
        label.names().iter().map(|name| format!("{prefix}{name}")).find(|key| label.is_in(frame, key))
    }

    fn labelled(&self, frame: Frame) -> Result<Labelled, LabelError> {
        let Units { energy: energy_unit, length, stress: stress_unit } = self.options.units;
        let (ev, angstrom) = (energy_unit.factor(), length.factor());
        let required = self.options.required;
        let key = |label| self.key(&frame, label);
        let energy = key(Label::Energy).map(|key| frame.number(&key)).transpose()?.flatten().map(|e| e * ev);
        let forces = key(Label::Forces).map(|key| frame.vectors(&key)).transpose()?.flatten();
        let forces =
            forces.map(|rows| rows.into_iter().map(|row| row.map(|f| f * (ev / angstrom))).collect::<Vec<_>>());
        let stress_read = key(Label::Stress).map(|key| frame.matrix(&key)).transpose()?.flatten();
        let virial = key(Label::Virial).map(|key| frame.matrix(&key)).transpose()?.flatten();

        let mut structure = frame.structure.clone();
        scale(&mut structure, angstrom);
        let volume = volume(&structure);
        let per_volume = match stress_unit {
            StressUnit::OfTheOthers => ev / angstrom.powi(3),
            StressUnit::Gigapascal => 1.0 / GPA,
            StressUnit::Kilobar => 0.1 / GPA,
        };
        // ∂E/∂ε, which says of every frame what its stress is along what repeats; symmetric, as the strain is.
        let strain = match (volume, stress_read, virial) {
            (Some(volume), Some(stress), _) => Some(scaled(stress, per_volume * volume)),
            (Some(_), None, Some(virial)) => Some(scaled(virial, -ev)),
            _ => None,
        };
        let stress = strain.and_then(|strain| stress(&structure, symmetric(strain)));

        let missing = [
            (required.energy && energy.is_none(), Label::Energy),
            (required.forces && forces.is_none(), Label::Forces),
            (required.stress && stress.is_none() && volume.is_some(), Label::Stress),
        ];
        if let Some((_, label)) = missing.into_iter().find(|(missing, _)| *missing) {
            let info = frame.info.iter().map(|(key, _)| format!("`{key}`"));
            let columns = frame.columns.iter().map(|column| format!("column `{}`", column.name));
            let found: Vec<String> = info.chain(columns).collect();
            return Err(LabelError::Missing {
                path: self.path.clone(),
                frame: self.frames,
                label: label.noun(),
                expected: self.sought(label),
                found: if found.is_empty() { "no keys".to_owned() } else { found.join(", ") },
            });
        }
        Ok(Labelled { structure, frame: self.frames, energy, forces, stress })
    }

    /// The keys that a label is looked for under, for messages.
    fn sought(&self, label: Label) -> String {
        match (self.options.keys.of(label), &self.spelling) {
            (Some(key), _) => format!("`{key}`"),
            (None, None) => format!("`{}` with or without {}", label.names()[0], PREFIXES[..4].join(", ")),
            (None, Some(Spelling { prefix, .. })) => {
                let mut names: Vec<&str> = label.names().to_vec();
                if label == Label::Stress {
                    names.extend(Label::Virial.names());
                }
                names.iter().map(|name| format!("`{prefix}{name}`")).collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

impl Iterator for LabelReader {
    type Item = Result<Labelled, LabelError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for LabelReader {}

/// All labelled frames of a file, and what a user should be told about it.
///
/// # Errors
/// [`LabelError`].
pub fn read_labelled(
    path: impl AsRef<Path>,
    options: &LabelOptions,
) -> Result<(Vec<Labelled>, Vec<StructureWarning>), LabelError> {
    let mut reader = LabelReader::open(path, options.clone())?;
    let frames = reader.by_ref().collect::<Result<_, _>>()?;
    Ok((frames, reader.warnings().to_vec()))
}

fn scale(structure: &mut Structure, factor: f64) {
    // The file's own bits, where it is in Å.
    if factor != 1.0 {
        structure.positions.iter_mut().flatten().for_each(|x| *x *= factor);
        structure.cell.iter_mut().flatten().flatten().for_each(|x| *x *= factor);
    }
}

/// The volume in Å³ of a cell in which something repeats.
fn volume(structure: &Structure) -> Option<f64> {
    let [a, b, c] = structure.cell.filter(|_| structure.pbc.contains(&true))?;
    let cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    let volume = a.iter().zip(cross).map(|(a, b)| a * b).sum::<f64>().abs();
    (volume.is_finite() && volume > 0.0).then_some(volume)
}

fn scaled(matrix: [[f64; 3]; 3], factor: f64) -> [[f64; 3]; 3] {
    matrix.map(|row| row.map(|x| x * factor))
}

fn symmetric(matrix: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|i| std::array::from_fn(|j| 0.5 * (matrix[i][j] + matrix[j][i])))
}

/// What labels look like in another unit than they are said to be in.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitHint {
    /// Which label.
    pub label: Label,
    /// What was found, with its unit: a median.
    pub found: String,
    /// What it would be usual for.
    pub meant: Energy,
}

impl fmt::Display for UnitHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, found, meant } = self;
        write!(f, "{found}: is the {} in {meant}? Say so, or it is read as it stands", label.noun())
    }
}

/// Gathers what hints at units, from labels as they were read.
///
/// Energies are compared with all-electron total energies of free atoms (Thomas–Fermi with its two corrections, −0.7687 Z^7⁄3 +
/// ½ Z² − 0.27 Z^5⁄3 Ha, within 2 % of them up to krypton, 8 % for hydrogen): their ratio is 1 in the right unit, and far from every
/// unit's factor for pseudopotentials. Forces are compared with those of molecules and crystals at temperature, a few tenths to ten
/// eV/Å. These are hints: a set of relaxed structures has small forces in any unit.
#[derive(Clone, Debug, Default)]
pub struct UnitHints {
    ratios: Sample,
    forces: Sample,
}

/// The first values of a stream, evenly thinned: a median of a long stream in constant memory.
#[derive(Clone, Debug)]
struct Sample {
    values: Vec<f64>,
    every: usize,
    seen: usize,
}

impl Default for Sample {
    fn default() -> Self {
        Self { values: Vec::new(), every: 1, seen: 0 }
    }
}

impl Sample {
    const MOST: usize = 4096;

    fn push(&mut self, value: f64) {
        if self.seen.is_multiple_of(self.every) {
            if self.values.len() == Self::MOST {
                let mut keep = false;
                self.values.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.every *= 2;
            }
            self.values.push(value);
        }
        self.seen += 1;
    }

    fn median(&self) -> Option<f64> {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

impl UnitHints {
    /// Looks at a frame.
    pub fn look(&mut self, frame: &Labelled) {
        if let Some(energy) = frame.energy {
            let free: f64 = frame.structure.species.iter().map(|z| free_atom(*z)).sum();
            // The corrections' series ends to be good beyond krypton, where relativity counts too.
            if free < 0.0 && frame.structure.species.iter().all(|z| *z <= 36) {
                self.ratios.push(energy / free);
            }
        }
        for force in frame.forces.iter().flatten() {
            self.forces.push(force.iter().map(|x| x * x).sum::<f64>().sqrt());
        }
    }

    /// What the frames so far hint at, if they were read in these units.
    pub fn hints(&self, units: Units) -> Vec<UnitHint> {
        let mut hints = Vec::new();
        let others = || Energy::ALL.iter().copied().filter(|unit| *unit != units.energy);
        if let Some(ratio) = self.ratios.median() {
            // A file in `unit` that is read in `units.energy` has energies that are this much too large.
            let off = |unit: Energy| ratio / (units.energy.factor() / unit.factor());
            if let Some(meant) = others().find(|unit| (0.9..1.1).contains(&off(*unit))) {
                let found = format!(
                    "the median energy is {ratio:.4} of that of its free atoms with all electrons, read in {}",
                    units.energy
                );
                hints.push(UnitHint { label: Label::Energy, found, meant });
            }
        }
        // Of MD at 300 to 1000 K the median |F| is 0.3 to 3 eV/Å; a mistaken unit shifts that by 23 or more.
        const USUAL: (f64, f64) = (0.06, 15.0);
        if let Some(force) = self.forces.median().filter(|force| *force > 0.0 && self.forces.seen >= 30) {
            let meant = match units.energy {
                Energy::ElectronVolt if force < USUAL.0 && force * Energy::Hartree.factor() > USUAL.0 => {
                    Some(Energy::Hartree)
                }
                Energy::ElectronVolt if force > USUAL.1 => Some(Energy::KilocaloriePerMole),
                Energy::KilocaloriePerMole | Energy::KilojoulePerMole if force < USUAL.0 => Some(Energy::ElectronVolt),
                Energy::Hartree if force > USUAL.1 => Some(Energy::ElectronVolt),
                _ => None,
            };
            if let Some(meant) = meant {
                let found = format!("the median force is {force:.3} eV/Å, read in {}/{}", units.energy, units.length);
                hints.push(UnitHint { label: Label::Forces, found, meant });
            }
        }
        hints
    }
}

/// The total energy of a free atom in eV, all electrons and no relativity, roughly: see [`UnitHints`].
fn free_atom(z: u8) -> f64 {
    let z = f64::from(z);
    Energy::Hartree.factor() * (-0.7687 * z.powf(7.0 / 3.0) + 0.5 * z * z - 0.2699 * z.powf(5.0 / 3.0))
}

/// Finds structures that occur more than once, in one set or in several, by elements, positions to 10⁻⁵ Å, cell and directions that
/// repeat. Structures that were turned, moved or renumbered are others to it. It keeps 24 bytes a structure.
#[derive(Clone, Debug, Default)]
pub struct Duplicates {
    seen: HashMap<u64, (usize, usize)>,
}

impl Duplicates {
    /// Looks at a structure of a set, by a number that the caller chose for it, and says where it was seen first: set and frame.
    pub fn look(&mut self, set: usize, frame: usize, structure: &Structure) -> Option<(usize, usize)> {
        let mut hasher = DefaultHasher::new();
        let mut length = |x: f64| {
            // −0 and 0 are one place.
            ((x * 1e5).round() as i64).hash(&mut hasher);
        };
        structure.positions.iter().flatten().for_each(|x| length(*x));
        if structure.pbc.contains(&true) {
            structure.cell.iter().flatten().flatten().for_each(|x| length(*x));
        }
        (&structure.species, structure.pbc).hash(&mut hasher);
        let first = *self.seen.entry(hasher.finish()).or_insert((set, frame));
        (first != (set, frame)).then_some(first)
    }
}

/// The symbols of atomic numbers, for messages.
pub fn symbols(species: impl IntoIterator<Item = u8>) -> String {
    let name = |z: u8| elements::symbol(z).map_or_else(|| z.to_string(), str::to_owned);
    species.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
