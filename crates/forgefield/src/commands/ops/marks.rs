//! Families, orders and runtimes as a table of marks.

use ff_kernels::compiled;
use ff_spec::RuntimeKind;

use super::rows::{Passed, Row};
use crate::screen::{Paint, Screen};

/// What the marks say.
pub const LEGEND: &str = "● passed every case  ○ passed the quick cases  ~ an earlier kernel passed  · nothing noted";

/// What is known of a kernel at an order on a runtime, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Nothing,
    Stale,
    Quick,
    Full,
}

impl Mark {
    fn of(pass: &Passed) -> Self {
        match (pass.current, pass.full) {
            (true, true) => Mark::Full,
            (true, false) => Mark::Quick,
            (false, _) => Mark::Stale,
        }
    }

    fn shown(self) -> char {
        match self {
            Mark::Nothing => '·',
            Mark::Stale => '~',
            Mark::Quick => '○',
            Mark::Full => '●',
        }
    }
}

/// The columns of a table of marks: one per runtime, with a mark for each order.
pub struct Marks {
    runtimes: Vec<RuntimeKind>,
    orders: Vec<u8>,
}

impl Marks {
    /// For the runtimes that this binary looks for and those that something passed on, and every order of these rows.
    pub fn new(rows: &[&Row]) -> Self {
        let compiled = compiled();
        let passed = |runtime: RuntimeKind| rows.iter().flat_map(|row| &row.passes).any(|pass| pass.runtime == runtime);
        let runtimes =
            RuntimeKind::ALL.into_iter().filter(|runtime| compiled.contains(runtime) || passed(*runtime)).collect();
        let mut orders: Vec<u8> = rows.iter().flat_map(|row| row.orders.iter().copied()).collect();
        orders.sort_unstable();
        orders.dedup();
        Self { runtimes, orders }
    }

    /// The header.
    pub fn runtimes(&self) -> Vec<String> {
        self.runtimes.iter().map(|runtime| runtime.to_string().to_uppercase()).collect()
    }

    /// The line below it.
    pub fn orders(&self) -> Vec<String> {
        let orders = self.orders.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
        vec![orders; self.runtimes.len()]
    }

    /// The marks of some variants together: of each the best of the devices of a runtime, of all of them the least.
    pub fn cells(&self, rows: &[&Row]) -> Vec<String> {
        let mark = |runtime: RuntimeKind, order: u8| {
            let of = |row: &&Row| {
                let passes = row.passes.iter().filter(|pass| (pass.runtime, pass.order) == (runtime, order));
                passes.map(Mark::of).max().unwrap_or(Mark::Nothing)
            };
            rows.iter().filter(|row| row.orders.contains(&order)).map(of).min().map_or(' ', Mark::shown)
        };
        let cell = |runtime: &RuntimeKind| {
            self.orders.iter().map(|order| mark(*runtime, *order).to_string()).collect::<Vec<_>>().join(" ")
        };
        self.runtimes.iter().map(cell).collect()
    }
}

/// Marks in colours, where stdout shows them.
pub fn painted(line: &str, screen: &Screen) -> String {
    let mark = |c: char| match c {
        '●' => screen.paint(Paint::Green, c),
        '~' => screen.paint(Paint::Yellow, c),
        c => c.to_string(),
    };
    line.chars().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(orders: &[u8], passes: &[(u8, RuntimeKind, bool, bool)]) -> Row {
        let passed = |(order, runtime, current, full): &(u8, RuntimeKind, bool, bool)| Passed {
            order: *order,
            device: String::new(),
            runtime: *runtime,
            date: String::new(),
            current: *current,
            cases: 1,
            full: *full,
            dtypes: Vec::new(),
        };
        Row {
            op: "op",
            variant: "variant",
            family: "family".to_owned(),
            orders: orders.to_vec(),
            orders_gated: orders.to_vec(),
            dtypes: Vec::new(),
            deterministic: true,
            parameters: Vec::new(),
            radial: None,
            passes: passes.iter().map(passed).collect(),
            radial_functions: Vec::new(),
            launch: Vec::new(),
        }
    }

    #[test]
    fn the_best_device_counts_and_the_least_variant() {
        let (host, cuda) = (RuntimeKind::Host, RuntimeKind::Cuda);
        // Two devices of a runtime: one is stale, the other current.
        let fresh = row(
            &[0, 1],
            &[(0, host, false, true), (0, host, true, true), (1, host, true, false), (1, cuda, false, true)],
        );
        let known = row(&[0, 1], &[(0, host, true, false), (1, host, true, true)]);
        let discrete = row(&[0], &[]);
        let marks = Marks { runtimes: vec![host, cuda], orders: vec![0, 1] };
        assert_eq!(marks.cells(&[&fresh]), ["● ○", "· ~"]);
        assert_eq!(marks.cells(&[&fresh, &known]), ["○ ○", "· ·"]);
        assert_eq!(marks.cells(&[&discrete]), ["·  ", "·  "]);
        for mark in ['●', '○', '~', '·'] {
            assert!(LEGEND.contains(mark), "{mark} is explained");
        }
    }
}
