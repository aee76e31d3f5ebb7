//! Neighbour lists that a caller keeps from call to call.

use std::ops::Range;

use ff_kernels::cell_list::host::{HostConfig, SkinList, build};
use ff_spec::cell_list::{InputError, Inputs, List, NeighborList, Strategy, Variant};

use crate::reference::Setting;

/// Lists of all pairs within the cutoff.
const FULL: Variant = Variant { list: List::Full, strategy: Strategy::Cells };

/// Neighbour lists of structures that move a little between calls of [`HostModel::predict_with`](super::HostModel::predict_with):
/// every list reaches further than the cutoff by a skin, and is built again only after an atom has moved by half of it. The edges
/// that a model sees are those of a list built anew, to the last bit.
#[derive(Debug)]
pub struct Neighbors {
    /// Å.
    skin: f64,
    systems: Vec<Kept>,
    pub(super) groups: Vec<Range<usize>>,
}

/// The list of one structure.
#[derive(Debug, Default)]
pub(super) struct Kept {
    list: Option<SkinList<f64>>,
    /// What the last call had, beside positions.
    setting: Option<Setting>,
    builds: u64,
}

impl Neighbors {
    /// Nothing yet; lists will have this skin in Å.
    ///
    /// # Errors
    /// [`InputError::Cutoff`] for a skin that is negative or not finite.
    pub fn new(skin: f64) -> Result<Self, InputError> {
        Inputs::check_skin(skin)?;
        Ok(Self { skin, systems: Vec::new(), groups: Vec::new() })
    }

    /// How often a list was built again, in all: the first of each structure is not counted.
    pub fn rebuilds(&self) -> u64 {
        self.systems.iter().map(|kept| kept.builds.saturating_sub(1)).sum()
    }

    /// Lists for so many structures.
    pub(super) fn of(&mut self, structures: usize) -> Lists<'_> {
        if self.systems.len() < structures {
            self.systems.resize_with(structures, Kept::default);
        }
        Lists { skin: self.skin, systems: &mut self.systems[..structures] }
    }
}

/// Lists of consecutive structures; empty where the caller keeps none.
#[derive(Default)]
pub(super) struct Lists<'a> {
    skin: f64,
    systems: &'a mut [Kept],
}

impl Lists<'_> {
    /// Those of the first so many structures, and of the others.
    pub fn split(self, at: usize) -> (Self, Self) {
        let (first, second) = self.systems.split_at_mut(at.min(self.systems.len()));
        (Self { skin: self.skin, systems: first }, Self { skin: self.skin, systems: second })
    }

    /// That of one structure, with its skin.
    pub fn of(&mut self, structure: usize) -> Option<(&mut Kept, f64)> {
        Some((self.systems.get_mut(structure)?, self.skin))
    }
}

impl Kept {
    /// The list of `inputs`, which are of one system, into `out`.
    pub fn load(&mut self, inputs: &Inputs<f64>, skin: f64, out: &mut NeighborList<f64>) -> Result<(), InputError> {
        let setting = Setting::new(inputs.cell(0), inputs.pbc[0], inputs.n_atoms());
        let is_same = self.setting.replace(setting) == Some(setting);
        let config = HostConfig::default();
        if !is_same && self.builds > 0 {
            // A cell that changes from call to call gets no skin: its lists would be built every time, and larger.
            self.list = None;
            self.builds += 1;
            return build(inputs, FULL.list, FULL.strategy, &config, out);
        }
        match &mut self.list {
            Some(list) => self.builds += list.update(&inputs.positions, None)? as u64,
            none => {
                *none = Some(SkinList::new(inputs.clone(), skin, FULL, config)?);
                self.builds += 1;
            }
        }
        if let Some(list) = &self.list {
            list.within(inputs.cutoff, out);
        }
        Ok(())
    }
}
