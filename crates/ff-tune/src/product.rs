//! The configurations of a space: a product of values, cut off wherever a constraint already refuses.

use std::ops::ControlFlow;

use crate::constraint::Constraint;
use crate::points::Points;

/// What decides which points of a space are left: its constraints, and every value they may name.
pub(crate) struct Product<'a> {
    /// Parameters with their values, by name.
    parameters: &'a [(String, Vec<u32>)],
    constraints: &'a [Constraint],
    /// For each constraint where its names stand: parameters first, then variables.
    slots: Vec<Vec<usize>>,
    /// Of the variables.
    variables: Vec<f64>,
}

/// Why a walk ended early: a constraint that is neither true nor false.
type Undecided = String;

impl<'a> Product<'a> {
    /// A product, with the variables that constraints may name besides.
    pub(crate) fn new(
        parameters: &'a [(String, Vec<u32>)],
        constraints: &'a [Constraint],
        variables: &[(&str, f64)],
    ) -> Result<Self, Undecided> {
        let place = |name: &String| {
            let parameter = parameters.iter().position(|(parameter, _)| parameter == name);
            let variable = || variables.iter().position(|(v, _)| v == name).map(|v| parameters.len() + v);
            parameter.or_else(variable).ok_or_else(|| format!("a constraint names `{name}`, which is unset"))
        };
        let slots = constraints.iter().map(|c| c.names().iter().map(place).collect()).collect::<Result<_, _>>()?;
        Ok(Self { parameters, constraints, slots, variables: variables.iter().map(|(_, value)| *value).collect() })
    }

    /// Adds to `points`, the grid of the parameters, every one that is left. Returns how many each constraint removed; a
    /// point counts for the first that refuses it.
    pub(crate) fn collect(&self, points: &mut Points) -> Result<Vec<u64>, Undecided> {
        let all: Vec<usize> = (0..self.constraints.len()).collect();
        let mut removed = vec![0; all.len()];
        self.walk(&all, &mut removed, true, &mut |levels| {
            points.push(levels);
            ControlFlow::Continue(())
        })?;
        points.sort();
        Ok(removed)
    }

    /// How many points each constraint alone would remove.
    pub(crate) fn alone(&self) -> Result<Vec<u64>, Undecided> {
        let total: u64 = self.parameters.iter().map(|(_, values)| values.len() as u64).product();
        let mut alone = Vec::new();
        for constraint in 0..self.constraints.len() {
            // Only over what it names: the rest multiplies both sides alike.
            let (mut kept, mut removed) = (0_u64, vec![0; self.constraints.len()]);
            self.walk(&[constraint], &mut removed, false, &mut |_| {
                kept += 1;
                ControlFlow::Continue(())
            })?;
            let named: u64 = self.named(&[constraint]).iter().map(|p| self.parameters[*p].1.len() as u64).product();
            alone.push((named - kept) * (total / named.max(1)));
        }
        Ok(alone)
    }

    /// Constraints that cannot hold together, where nothing is left: one if one alone never holds, else two, else as few
    /// as none of which can be spared. Empty where something is left.
    pub(crate) fn conflict(&self) -> Vec<usize> {
        let count = self.constraints.len();
        let all: Vec<usize> = (0..count).collect();
        if self.satisfiable(&all) {
            return Vec::new();
        }
        if let Some(single) = all.iter().find(|c| !self.satisfiable(&[**c])) {
            return vec![*single];
        }
        let pairs = all.iter().flat_map(|a| (a + 1..count).map(move |b| [*a, b]));
        if let Some(pair) = pairs.into_iter().find(|pair| !self.satisfiable(pair)) {
            return pair.to_vec();
        }
        let mut needed = all;
        let mut next = 0;
        while next < needed.len() {
            let mut without = needed.clone();
            without.remove(next);
            if self.satisfiable(&without) { next += 1 } else { needed = without }
        }
        needed
    }

    /// Whether some configuration meets all of these. What cannot be decided is no contradiction.
    fn satisfiable(&self, constraints: &[usize]) -> bool {
        let (mut found, mut removed) = (false, vec![0; self.constraints.len()]);
        let walked = self.walk(constraints, &mut removed, false, &mut |_| {
            found = true;
            ControlFlow::Break(())
        });
        found || walked.is_err()
    }

    /// The parameters that these constraints name, in the order in which most is decided earliest: those of the constraint
    /// that lacks the fewest come next.
    fn named(&self, constraints: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        let mut open: Vec<Vec<usize>> = constraints.iter().map(|c| self.slots[*c].clone()).collect();
        open.iter_mut().for_each(|slots| slots.retain(|s| *s < self.parameters.len()));
        loop {
            open.iter_mut().for_each(|slots| slots.retain(|s| !order.contains(s)));
            open.retain(|slots| !slots.is_empty());
            let Some(next) = open.iter().min_by_key(|slots| slots.len()) else { return order };
            order.extend(next);
        }
    }

    /// Visits what is left under some of the constraints, by the places of the values. A constraint is judged as soon as
    /// all that it names is set, so what it refuses is cut off as a whole branch. Without `whole`, parameters that none of
    /// them names stay at their first value.
    fn walk(
        &self,
        constraints: &[usize],
        removed: &mut [u64],
        whole: bool,
        visit: &mut dyn FnMut(&[usize]) -> ControlFlow<()>,
    ) -> Result<(), Undecided> {
        let mut order = self.named(constraints);
        if whole {
            order.extend((0..self.parameters.len()).filter(|p| !order.contains(p)).collect::<Vec<_>>());
        }
        let mut due = vec![Vec::new(); order.len() + 1];
        for constraint in constraints {
            let last = order.iter().rposition(|parameter| self.slots[*constraint].contains(parameter));
            due[last.map_or(0, |last| last + 1)].push(*constraint);
        }
        let mut values = vec![0.0; self.parameters.len()];
        values.extend(&self.variables);
        let levels = vec![0; self.parameters.len()];
        let mut walk = Walk { product: self, order, due, values, levels, arguments: Vec::new(), removed, visit };
        walk.descend(0).map(|_| ())
    }
}

/// The state of a depth-first walk.
struct Walk<'w, 'a> {
    product: &'w Product<'a>,
    /// Parameters, as they are set.
    order: Vec<usize>,
    /// Which constraints become decidable once the first n of them are set.
    due: Vec<Vec<usize>>,
    values: Vec<f64>,
    levels: Vec<usize>,
    arguments: Vec<f64>,
    removed: &'w mut [u64],
    visit: &'w mut dyn FnMut(&[usize]) -> ControlFlow<()>,
}

impl Walk<'_, '_> {
    fn descend(&mut self, depth: usize) -> Result<ControlFlow<()>, Undecided> {
        let product = self.product;
        for index in 0..self.due[depth].len() {
            let constraint = self.due[depth][index];
            self.arguments.clear();
            self.arguments.extend(product.slots[constraint].iter().map(|slot| self.values[*slot]));
            if !product.constraints[constraint].judge(&self.arguments)? {
                let below = self.order[depth..].iter().map(|p| product.parameters[*p].1.len() as u64);
                self.removed[constraint] += below.product::<u64>();
                return Ok(ControlFlow::Continue(()));
            }
        }
        let Some(&parameter) = self.order.get(depth) else { return Ok((self.visit)(&self.levels)) };
        for (level, value) in product.parameters[parameter].1.iter().enumerate() {
            self.levels[parameter] = level;
            self.values[parameter] = f64::from(*value);
            if self.descend(depth + 1)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
