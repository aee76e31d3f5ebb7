use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, LaunchError, Problem};
use ff_tables::Versions;
use ff_tune::guarded;
use ff_tune::lines::LineError;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::description::Sampling;
use crate::results::{Measured, RESULT_SCHEMA, ResultWriter, Verdict, identity};
use crate::row::Row;

/// Why a row has no times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of what kind the reason is.
    pub verdict: Verdict,
    /// The reason.
    pub reason: String,
}

impl Refused {
    /// A reason of a kind.
    pub fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into() }
    }
}

impl From<LaunchError> for Refused {
    fn from(error: LaunchError) -> Self {
        let verdict = match &error {
            LaunchError::Unsupported(_) => Verdict::Unsupported,
            LaunchError::Compile(_) => Verdict::Compile,
            LaunchError::Runtime(_) => Verdict::Runtime,
            // No such variant, a configuration that does not fit, and tensors that no kernel takes.
            _ => Verdict::Constraint,
        };
        Self::new(verdict, error.to_string())
    }
}

/// Something prepared that is gated and timed.
pub trait Timed {
    /// Compares what it computes with a reference, on outputs that were poisoned before; ‖out − ref‖/‖ref‖.
    ///
    /// # Errors
    /// [`Refused`]: a wrong result is [`Verdict::Correctness`].
    fn gate(&mut self) -> Result<f64, Refused>;

    /// Runs once and says how long that took.
    ///
    /// # Errors
    /// [`Refused`].
    fn time(&mut self) -> Result<Duration, Refused>;

    /// Runs once and says how many bytes became resident meanwhile, at their peak; `None` where the system does not say.
    ///
    /// # Errors
    /// [`Refused`].
    fn peak_bytes(&mut self) -> Result<Option<u64>, Refused>;
}

/// What a row is about.
pub enum Subject {
    /// It is gated and timed. Metrics are known beforehand, such as the size of a table and its error.
    Timed(Box<dyn Timed>, BTreeMap<String, f64>),
    /// It is computed, and has no times.
    Computed(BTreeMap<String, f64>),
}

/// Where the figures of a row come from: the fields of [`Measured`] that are known before it is measured.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as the fields of `Measured`")]
pub struct Origin {
    pub op: String,
    pub variant: String,
    pub kernel_hash: String,
    pub order: u8,
    pub dtype: Dtype,
    pub config: LaunchConfig,
    pub problem: Problem,
    pub device: DeviceId,
    pub versions: Versions,
    pub compiler: String,
    pub clock: Clock,
}

/// What knows the words of rows.
pub trait Bench {
    /// What tells a measurement of this row from others: kernel hash, device and compiler. It takes no time.
    ///
    /// # Errors
    /// Bad input, which ends the sweep.
    fn source(&mut self, row: &Row) -> Result<(String, DeviceId, String), String>;

    /// Of a replay: how often which records are searched; `None` of what is measured.
    fn replayed(&self) -> Option<&str> {
        None
    }

    /// Makes what the row is about.
    ///
    /// # Errors
    /// Bad input, which ends the sweep. A row that cannot be measured has an origin, and a reason in place of its subject.
    fn prepare(&mut self, row: &Row) -> Result<(Origin, Result<Subject, Refused>), String>;
}

/// Rows that take turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its number among all groups of the sweep, whatever share is measured.
    pub index: usize,
    /// The rows.
    pub rows: Vec<Row>,
}

/// Rows that differ in nothing but these axes, together; in the order of their first rows.
pub fn groups(rows: Vec<Row>, beside: &[String]) -> Vec<Group> {
    let axes: Vec<&str> = beside.iter().map(String::as_str).collect();
    let (mut groups, mut places): (Vec<Group>, BTreeMap<String, usize>) = (Vec::new(), BTreeMap::new());
    for row in rows {
        let place = *places.entry(row.without(&axes).to_string()).or_insert_with(|| {
            groups.push(Group { index: groups.len(), rows: Vec::new() });
            groups.len() - 1
        });
        groups[place].rows.push(row);
    }
    groups
}

/// Groups without the rows that results hold already, and how many those are.
///
/// # Errors
/// [`Stopped::Input`] for a row that nobody can measure.
pub fn remaining(
    bench: &mut dyn Bench,
    groups: &[Group],
    existing: &[Measured],
) -> Result<(Vec<Group>, usize), Stopped> {
    // The last line of each identity is the one that counts, and only it can make a row done.
    let done: BTreeMap<String, Option<&str>> =
        existing.iter().map(|line| (line.identity(), line.replayed.as_deref())).collect();
    let (mut left, mut resumed) = (Vec::new(), 0);
    for group in groups {
        let mut rows = Vec::new();
        for row in &group.rows {
            let bad = |reason| Stopped::Input { row: row.to_string(), reason };
            let (hash, device, compiler) = bench.source(row).map_err(bad)?;
            let found = done.get(&identity(row, &hash, &device, &compiler));
            if found.is_some_and(|replayed| *replayed == bench.replayed()) {
                resumed += 1;
            } else {
                rows.push(row.clone());
            }
        }
        if !rows.is_empty() {
            left.push(Group { index: group.index, rows });
        }
    }
    Ok((left, resumed))
}

/// What happens while a sweep runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many rows are in the results already and are not measured again.
    Resumed(usize),
    /// A row is being prepared, gated or timed.
    Begin(&'a Row),
    /// A row is done and kept.
    End(&'a Measured),
}

/// How a sweep ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// It was asked to; what was measured is kept.
    #[error("interrupted: what was measured is kept; --resume goes on from there")]
    Interrupted,
    /// A row that nobody can measure.
    #[error("row {row}: {reason}")]
    Input {
        /// Which.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Results cannot be written.
    #[error(transparent)]
    Results(#[from] LineError),
}

/// What is measured, and how.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The sweep's name.
    pub sweep: &'a str,
    /// The rows.
    pub groups: &'a [Group],
    /// How long each is timed.
    pub sampling: &'a Sampling,
    /// Whether what the results hold already is left out.
    pub resume: bool,
    /// Ends the sweep when it is raised.
    pub stop: &'a AtomicBool,
}

impl Job<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Measures groups of rows and appends what came of them.
///
/// # Errors
/// [`Stopped`]; whatever was measured before is kept.
pub fn run(
    bench: &mut dyn Bench,
    job: &Job<'_>,
    results: &mut ResultWriter,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<(), Stopped> {
    let existing = if job.resume { results.existing() } else { &[] };
    let (left, resumed) = remaining(bench, job.groups, existing)?;
    if resumed > 0 {
        on_event(Event::Resumed(resumed));
    }
    for Group { index, rows } in left {
        // Milliseconds tell two runs of the same sweep apart.
        let name = format!("{}-{index}", since_1970().as_millis());
        for line in measure(bench, job, &name, &rows, on_event)? {
            results.append(&line)?;
            on_event(Event::End(&line));
        }
        if job.stopped() {
            results.sync()?;
            return Err(Stopped::Interrupted);
        }
    }
    Ok(results.sync()?)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A row while its group is measured.
struct Contender<'a> {
    row: &'a Row,
    origin: Origin,
    timed: Option<Box<dyn Timed>>,
    metrics: BTreeMap<String, f64>,
    refused: Option<Refused>,
    before: Option<f64>,
    after: Option<f64>,
    peak_bytes: Option<u64>,
    samples_ns: Vec<u64>,
    wall: Duration,
}

impl Contender<'_> {
    /// Does something with what is timed, unless the row has been refused; a refusal ends the row.
    fn attempt<T>(&mut self, action: impl FnOnce(&mut dyn Timed) -> Result<T, Refused>) -> Option<T> {
        let start = Instant::now();
        let timed = self.timed.as_mut().filter(|_| self.refused.is_none())?;
        let found = guarded(|| action(timed.as_mut()));
        self.wall += start.elapsed();
        match found {
            Ok(found) => Some(found),
            Err(refused) => {
                self.refused = Some(refused);
                None
            }
        }
    }

    fn stands(&self) -> bool {
        self.refused.is_none() && self.timed.is_some()
    }
}

/// Prepares all rows, gates them, times them in turns, and gates them again. Where it is stopped, rows are kept that have
/// enough samples by then, or no need of any.
fn measure(
    bench: &mut dyn Bench,
    job: &Job<'_>,
    group: &str,
    rows: &[Row],
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Measured>, Stopped> {
    let sampling = job.sampling;
    let mut contenders = Vec::new();
    for row in rows {
        if job.stopped() {
            break;
        }
        on_event(Event::Begin(row));
        let start = Instant::now();
        let prepared = bench.prepare(row).map_err(|reason| Stopped::Input { row: row.to_string(), reason })?;
        let (origin, subject) = prepared;
        let (timed, metrics, refused) = match subject {
            Ok(Subject::Timed(timed, metrics)) => (Some(timed), metrics, None),
            Ok(Subject::Computed(metrics)) => (None, metrics, None),
            Err(refused) => (None, BTreeMap::new(), Some(refused)),
        };
        let mut contender = Contender {
            row,
            origin,
            timed,
            metrics,
            refused,
            before: None,
            after: None,
            peak_bytes: None,
            samples_ns: Vec::new(),
            wall: start.elapsed(),
        };
        // The first run is a look at how long one takes: a second one may be more than anybody waits for.
        if let Some(first) = contender.attempt(|timed| timed.time())
            && first > sampling.timeout
        {
            let reason = format!("one run took {first:.1?}, allowed {:.1?}", sampling.timeout);
            contender.refused = Some(Refused::new(Verdict::Timeout, reason));
        }
        contender.before = contender.attempt(|timed| timed.gate());
        contender.peak_bytes = contender.attempt(|timed| timed.peak_bytes()).flatten();
        contenders.push(contender);
    }
    turns(&mut contenders, sampling, &|| job.stopped());
    let mut lines = Vec::new();
    for mut contender in contenders {
        let timed = contender.timed.is_some();
        if timed && contender.refused.is_none() && contender.samples_ns.len() < sampling.least {
            // Stopped before there was enough to keep.
            continue;
        }
        contender.after = contender.attempt(|timed| timed.gate());
        let Contender { row, origin, metrics, refused, before, after, peak_bytes, mut samples_ns, wall, .. } =
            contender;
        if refused.is_some() {
            // A time without a pass on both sides is not kept.
            samples_ns.clear();
        }
        let (verdict, reason) =
            refused.map_or((Verdict::Correct, None), |Refused { verdict, reason }| (verdict, Some(reason)));
        let Origin { op, variant, kernel_hash, order, dtype, config, problem, device, versions, compiler, clock } =
            origin;
        lines.push(Measured {
            schema: RESULT_SCHEMA,
            sweep: job.sweep.to_owned(),
            row: row.clone(),
            op,
            variant,
            kernel_hash,
            order,
            dtype,
            config,
            problem,
            device,
            versions,
            compiler,
            clock,
            group: group.to_owned(),
            verdict,
            reason,
            rel_error: before.zip(after).map(|(before, after)| [before, after]),
            peak_bytes: peak_bytes.filter(|_| verdict == Verdict::Correct),
            samples_ns,
            metrics,
            replayed: bench.replayed().map(str::to_owned),
            wall_s: wall.as_secs_f64(),
            unix_time: since_1970().as_secs(),
        });
    }
    Ok(lines)
}

/// Rounds of one sample of each row, in an order drawn anew for each, until every row has enough.
fn turns(contenders: &mut [Contender<'_>], sampling: &Sampling, stopped: &dyn Fn() -> bool) {
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let start = Instant::now();
    let standing = contenders.iter().filter(|c| c.stands()).count();
    let time = sampling.time * u32::try_from(standing).unwrap_or(u32::MAX);
    for round in 0..sampling.most {
        if round >= sampling.least && start.elapsed() >= time {
            return;
        }
        order.shuffle(&mut rng);
        for turn in &order {
            if stopped() {
                return;
            }
            let contender = &mut contenders[*turn];
            if let Some(time) = contender.attempt(|timed| timed.time()) {
                // A device clock may be coarse; a time of 0 would make ratios meaningless.
                contender.samples_ns.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
            }
        }
    }
}
