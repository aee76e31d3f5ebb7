//! The one document that pages and figures are drawn from.

use std::collections::BTreeSet;

use ff_spec::{DeviceId, Dtype, Limits, Problem, RuntimeKind, SCHEMA_VERSION, kernel_name};
use ff_tables::Table;
use ff_testkit::gate::GateSummary;
use ff_tune::{Record, Recorded};
use serde::Serialize;

use crate::bench::Bench;
use crate::gate::{Checked, Passed, PassedFamily};
use crate::roofline::{self, Peak, Point, Roof};
use crate::search::Search;
use crate::speedup::{self, Speedup};

/// What a report is made of. Whatever is empty is said to be missing where it would be shown.
#[derive(Debug, Default)]
pub struct Sources {
    /// Of the tuner, in the order in which they were written.
    pub records: Vec<Record>,
    /// Tuning tables.
    pub tables: Vec<Table>,
    /// Of `bench`.
    pub benches: Vec<Bench>,
    /// Of `verify --json`.
    pub gates: Vec<GateSummary>,
    /// Of `verify --passes`.
    pub passes: Vec<Passed>,
    /// Where all that was read from, as a reader should see it.
    pub files: Vec<String>,
    /// What could not be read, and was left out.
    pub warnings: Vec<String>,
    /// The version of the program that reports.
    pub forgefield: String,
}

/// What a line, a bar or a point is about; everything can be filtered by it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// Op.
    pub op: String,
    /// Variant id.
    pub variant: String,
    /// Derivative order.
    pub order: u8,
    /// The variant's family, by [`kernel_name`].
    pub family: String,
    /// Its sizes.
    pub problem: Problem,
    /// Element type.
    pub dtype: Dtype,
    /// Place in [`Report::devices`].
    pub device: usize,
}

/// A device with the driver and the threads that something was measured with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// As its driver or the processor reports it.
    pub name: String,
    /// Folder of its tables.
    pub slug: String,
    /// What drives it.
    pub runtime: RuntimeKind,
    /// SIMD level, compute capability, adapter kind.
    pub arch: String,
    /// Driver; empty on host.
    pub driver: String,
    /// Worker threads on host, else 0.
    pub threads: u32,
    /// A software adapter: its times are no performance claims.
    pub software: bool,
    /// Whether it computes in f64.
    pub f64: bool,
    /// What it can hold.
    pub limits: Limits,
    /// What tells it apart from others of its name and runtime in the report, where there are others.
    pub apart: Option<String>,
}

impl Device {
    /// As a reader tells it apart from all others.
    pub fn label(&self) -> String {
        let apart = self.apart.iter().map(|apart| format!(", {apart}")).collect::<String>();
        format!("{} ({}{apart})", self.name, self.runtime)
    }
}

impl From<&DeviceId> for Device {
    fn from(id: &DeviceId) -> Self {
        Self {
            name: id.name.clone(),
            slug: id.slug.clone(),
            runtime: id.runtime,
            arch: id.arch.clone(),
            driver: id.driver.clone(),
            threads: id.threads,
            software: id.software,
            f64: id.f64,
            limits: id.limits,
            apart: None,
        }
    }
}

/// What a device was measured with.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Environment {
    /// What compiled the kernels.
    pub compilers: BTreeSet<String>,
    /// Versions of this workspace and of what it computes with.
    pub versions: BTreeSet<String>,
    /// What times were measured with.
    pub clocks: BTreeSet<String>,
    /// Seconds since 1970 of the first and the last record.
    pub from: Option<u64>,
    /// As `from`.
    pub until: Option<u64>,
}

/// Everything that is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema: u32,
    /// The version of the program that reports.
    pub forgefield: String,
    /// Where all that was read from.
    pub files: Vec<String>,
    /// What could not be read.
    pub warnings: Vec<String>,
    /// Where things were measured.
    pub devices: Vec<Device>,
    /// What with, device by device.
    pub environments: Vec<Environment>,
    /// What the tuner searched.
    pub searches: Vec<Search>,
    /// What that gained.
    pub speedups: Vec<Speedup>,
    /// What devices can do at most.
    pub roofs: Vec<Roof>,
    /// What kernels do.
    pub points: Vec<Point>,
    /// Results of the gate.
    pub checked: Vec<Checked>,
    /// What passed it completely, and when.
    pub passed: Vec<PassedFamily>,
}

impl Report {
    /// Puts together what was measured. `documented` says what a device can do at most where that was not measured.
    pub fn new(sources: Sources, documented: impl Fn(&Device) -> Option<Peak>) -> Self {
        let Sources { records, tables, benches, gates, passes, files, warnings, forgefield } = sources;
        let mut known = Known::default();
        for record in &records {
            let environment = known.environment(&record.device);
            environment.compilers.insert(record.compiler.clone());
            environment.clocks.insert(clock(record.clock).to_owned());
            let (time, least, most) = (record.unix_time, environment.from, environment.until);
            environment.from = Some(least.map_or(time, |least| least.min(time)));
            environment.until = Some(most.map_or(time, |most| most.max(time)));
        }
        for table in &tables {
            let versions = &table.versions;
            let text = format!(
                "tables by forgefield {}, burn {}, cubecl {}",
                versions.forgefield, versions.burn, versions.cubecl
            );
            known.environment(&table.device).versions.insert(text);
        }
        for bench in &benches {
            let text = format!("bench by forgefield {}", bench.forgefield);
            known.environment(&bench.device).versions.insert(text);
        }
        let recorded = Recorded::of(&records);
        let searches: Vec<Search> = recorded
            .iter()
            .map(|search| {
                let (kernel, device) = ((search.variant.as_str(), search.order), known.place(&search.device));
                let subject = subject(&search.op, kernel, &search.problem, search.dtype, device);
                Search::new(subject, search, &records)
            })
            .collect();
        let speedups = speedup::all(&searches, &tables, &mut known);
        let roofs = roofline::roofs(&benches, &mut known, documented);
        let points = roofline::points(&searches, &benches, &roofs, &mut known);
        tell_apart(&mut known.devices);
        Self {
            schema: SCHEMA_VERSION,
            forgefield,
            files,
            warnings,
            devices: known.devices,
            environments: known.environments,
            searches,
            speedups,
            roofs,
            points,
            checked: Checked::of(&gates),
            passed: PassedFamily::of(&passes),
        }
    }

    /// The device of a subject.
    pub fn device(&self, subject: &Subject) -> &Device {
        &self.devices[subject.device]
    }
}

/// Devices in the order in which they are met.
#[derive(Default)]
pub(crate) struct Known {
    pub devices: Vec<Device>,
    pub environments: Vec<Environment>,
}

impl Known {
    pub(crate) fn place(&mut self, id: &DeviceId) -> usize {
        let device = Device::from(id);
        self.devices.iter().position(|known| *known == device).unwrap_or_else(|| {
            self.devices.push(device);
            self.environments.push(Environment::default());
            self.devices.len() - 1
        })
    }

    fn environment(&mut self, id: &DeviceId) -> &mut Environment {
        let place = self.place(id);
        &mut self.environments[place]
    }
}

/// Names what differs between devices of one name and runtime: the first of the facts that most of them differ in.
fn tell_apart(devices: &mut [Device]) {
    let facts: [fn(&Device) -> String; 4] =
        [|d| d.arch.clone(), |d| format!("{} threads", d.threads), |d| d.driver.clone(), |d| d.slug.clone()];
    let all = devices.to_vec();
    for device in devices {
        let same = |other: &&Device| (&other.name, other.runtime) == (&device.name, device.runtime);
        let kinds = facts.map(|fact| all.iter().filter(same).map(fact).collect::<BTreeSet<String>>().len());
        let most = kinds.iter().copied().max().filter(|kinds| *kinds > 1);
        let fact = facts.iter().zip(kinds).find(|(_, kinds)| Some(*kinds) == most);
        device.apart = fact.map(|(fact, _)| fact(device)).filter(|fact| !fact.is_empty());
    }
}

pub(crate) fn subject(
    op: &str,
    (variant, order): (&str, u8),
    problem: &Problem,
    dtype: Dtype,
    device: usize,
) -> Subject {
    Subject {
        op: op.to_owned(),
        variant: variant.to_owned(),
        order,
        family: kernel_name(&family(op, variant), order),
        problem: problem.clone(),
        dtype,
        device,
    }
}

/// The family of a variant; itself where it is none that this version knows.
pub fn family(op: &str, variant: &str) -> String {
    ff_spec::family(op, variant).unwrap_or_else(|| variant.to_owned())
}

/// Whether a variant is among those named, by its id or its family; no names mean all.
pub fn names(named: &[String], op: &str, variant: &str) -> bool {
    named.is_empty() || named.iter().any(|name| name == variant || *name == family(op, variant))
}

pub(crate) fn clock(clock: ff_spec::Clock) -> &'static str {
    match clock {
        ff_spec::Clock::Device => "device timestamps",
        ff_spec::Clock::Wall => "wall clock around launch and wait",
    }
}
