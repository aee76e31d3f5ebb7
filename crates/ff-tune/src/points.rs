//! The points of a space, as numbers on a grid.

use std::collections::BTreeSet;

use ff_spec::LaunchConfig;

/// Configurations that have the same parameters, each known by its place on the grid of all combinations of values.
///
/// Parameters are sorted by name, values ascend, and points are in lexicographic order. A point takes eight bytes, so a
/// space of a million is no burden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Points {
    names: Vec<String>,
    levels: Vec<Vec<u32>>,
    strides: Vec<u64>,
    /// Ascending.
    keys: Vec<u64>,
}

impl Points {
    /// The grid of these values, without points yet; `None` where it has 2⁶⁴ points or more.
    pub(crate) fn grid(parameters: impl IntoIterator<Item = (String, Vec<u32>)>) -> Option<Self> {
        let (names, mut levels): (Vec<String>, Vec<Vec<u32>>) = parameters.into_iter().unzip();
        levels.iter_mut().for_each(|values| values.sort_unstable());
        let mut strides = vec![1_u64; levels.len()];
        let mut total = 1_u64;
        for (stride, values) in strides.iter_mut().zip(&levels).rev() {
            *stride = total;
            total = total.checked_mul(values.len() as u64)?;
        }
        Some(Self { names, levels, strides, keys: Vec::new() })
    }

    /// The points of these configurations.
    ///
    /// # Errors
    /// Where two do not have the same parameters.
    pub fn of(configs: &[LaunchConfig]) -> Result<Self, String> {
        let names: Vec<String> = configs.first().map(|c| c.0.keys().cloned().collect()).unwrap_or_default();
        if let Some(other) = configs.iter().find(|c| !c.0.keys().eq(&names)) {
            let found: Vec<&str> = other.0.keys().map(String::as_str).collect();
            return Err(format!("parameters {}, expected {}", found.join(", "), names.join(", ")));
        }
        let levels = names.iter().map(|n| configs.iter().filter_map(|c| c.get(n)).collect::<BTreeSet<_>>());
        let grid = Self::grid(names.iter().cloned().zip(levels.map(|values| values.into_iter().collect())));
        let mut points = grid.ok_or("2⁶⁴ points or more")?;
        points.keys = configs.iter().filter_map(|c| points.key(c)).collect();
        points.keys.sort_unstable();
        points.keys.dedup();
        Ok(points)
    }

    /// Adds the point of these levels; [`Points::sort`] comes before anything is asked.
    pub(crate) fn push(&mut self, levels: &[usize]) {
        self.keys.push(levels.iter().zip(&self.strides).map(|(level, stride)| *level as u64 * stride).sum());
    }

    /// Puts the points in order.
    pub(crate) fn sort(&mut self) {
        self.keys.sort_unstable();
    }

    /// Keeps the points for which this is true.
    pub(crate) fn retain(&mut self, kept: &[bool]) {
        let mut kept = kept.iter();
        self.keys.retain(|_| kept.next().copied().unwrap_or(false));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Combinations of all values, feasible or not.
    pub fn total(&self) -> u64 {
        self.levels.iter().map(|values| values.len() as u64).product()
    }

    /// The parameters with their values.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &[u32])> {
        self.names.iter().map(String::as_str).zip(self.levels.iter().map(Vec::as_slice))
    }

    /// The configuration of a point.
    ///
    /// # Panics
    /// Where there are not so many points.
    pub fn config(&self, point: usize) -> LaunchConfig {
        let values = self.levels_of(point).into_iter().zip(&self.levels).map(|(level, values)| values[level]);
        LaunchConfig(self.names.iter().cloned().zip(values).collect())
    }

    /// All configurations, in order.
    pub fn iter(&self) -> impl Iterator<Item = LaunchConfig> {
        (0..self.len()).map(|point| self.config(point))
    }

    /// The point of a configuration; `None` where it is none of them.
    pub fn position(&self, config: &LaunchConfig) -> Option<usize> {
        self.keys.binary_search(&self.key(config)?).ok()
    }

    /// The place of each value of a point among the values of its parameter.
    pub(crate) fn levels_of(&self, point: usize) -> Vec<usize> {
        let key = self.keys[point];
        let level = |(stride, values): (&u64, &Vec<u32>)| (key / stride % values.len() as u64) as usize;
        self.strides.iter().zip(&self.levels).map(level).collect()
    }

    /// The point at these levels, where it is one.
    pub(crate) fn at(&self, levels: &[usize]) -> Option<usize> {
        let key = levels.iter().zip(&self.strides).map(|(level, stride)| *level as u64 * stride).sum();
        self.keys.binary_search(&key).ok()
    }

    /// How many values each parameter has.
    pub(crate) fn widths(&self) -> impl Iterator<Item = usize> {
        self.levels.iter().map(Vec::len)
    }

    /// The points that differ from this one in one parameter.
    pub(crate) fn neighbours(&self, point: usize) -> Vec<usize> {
        let levels = self.levels_of(point);
        let mut found = Vec::new();
        for (axis, width) in self.widths().enumerate() {
            let mut other = levels.clone();
            for level in (0..width).filter(|level| *level != levels[axis]) {
                other[axis] = level;
                found.extend(self.at(&other));
            }
        }
        found
    }

    /// The point in the unit cube: the place of each value among those of its parameter. A parameter of one value says
    /// nothing and is left out.
    pub(crate) fn coordinates(&self, point: usize) -> Vec<f64> {
        let levels = self.levels_of(point).into_iter().zip(self.widths());
        levels.filter(|(_, width)| *width > 1).map(|(level, width)| level as f64 / (width - 1) as f64).collect()
    }

    fn key(&self, config: &LaunchConfig) -> Option<u64> {
        if config.0.len() != self.names.len() {
            return None;
        }
        let mut key = 0;
        for ((name, values), stride) in self.names.iter().zip(&self.levels).zip(&self.strides) {
            key += values.binary_search(&config.get(name)?).ok()? as u64 * stride;
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_where_their_configurations_say() {
        let configs: Vec<LaunchConfig> = [(8, 1), (2, 1), (2, 4), (16, 4), (2, 1)]
            .map(|(a, b)| LaunchConfig::from([("a", a), ("b", b), ("c", 7)]))
            .to_vec();
        let points = Points::of(&configs).expect("alike");
        assert_eq!((points.len(), points.total()), (4, 6), "one came twice");
        for (place, config) in points.iter().enumerate() {
            assert_eq!(points.position(&config), Some(place));
            assert!(configs.contains(&config));
        }
        assert_eq!(points.position(&LaunchConfig::from([("a", 8), ("b", 4), ("c", 7)])), None, "not one of them");
        assert_eq!(points.position(&LaunchConfig::from([("a", 8), ("b", 1)])), None);
        assert_eq!(points.position(&LaunchConfig::from([("a", 9), ("b", 1), ("c", 7)])), None);
        assert_eq!(points.config(0), configs[1]);
        assert_eq!((points.coordinates(0), points.coordinates(3)), (vec![0.0, 0.0], vec![1.0, 1.0]));
        // (2, 1) has (2, 4) and (8, 1) beside it; (16, 1) is none.
        let near = points.neighbours(0).into_iter().map(|p| points.config(p));
        assert_eq!(near.collect::<BTreeSet<_>>(), [configs[0].clone(), configs[2].clone()].into());

        let other = LaunchConfig::from([("a", 1)]);
        assert_eq!(Points::of(&[configs[0].clone(), other]).expect_err("others"), "parameters a, expected a, b, c");
        assert_eq!(Points::of(&[]).expect("none").len(), 0);
    }
}
