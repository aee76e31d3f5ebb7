//! Counted FLOPs and bytes against what a device can do at most.

use ff_spec::fused_message::{self, cost};
use ff_spec::{Dtype, FusedMessage, Op};
use serde::Serialize;

use crate::bench::{Bench, Row};
use crate::report::{Device, Known, Subject, subject};
use crate::search::Search;

/// What a device can do at most.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// FLOP/s in f32.
    pub f32: f64,
    /// FLOP/s in f64.
    pub f64: f64,
    /// B/s to and from its memory.
    pub bytes: f64,
    /// Where these are from.
    pub source: String,
}

impl Peak {
    /// FLOP/s in elements of a type.
    pub fn flops(&self, dtype: Dtype) -> f64 {
        match dtype {
            Dtype::F32 => self.f32,
            Dtype::F64 => self.f64,
        }
    }
}

/// The roof over the points of a device in one element type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roof {
    /// Place in [`crate::Report::devices`].
    pub device: usize,
    /// Element type.
    pub dtype: Dtype,
    /// FLOP/s.
    pub flops: f64,
    /// B/s.
    pub bytes: f64,
    /// Where these are from.
    pub source: String,
}

impl Roof {
    /// FLOP/s at most at an intensity in FLOP/B.
    pub fn at(&self, intensity: f64) -> f64 {
        self.flops.min(self.bytes * intensity)
    }
}

/// A kernel under its roof, on hardware: software adapters are never among these.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Of what.
    #[serde(flatten)]
    pub subject: Subject,
    /// `tuned`, or the case of a bench.
    pub label: String,
    /// The configuration.
    pub config: String,
    /// Counted FLOPs of a call.
    pub flops: u64,
    /// Counted compulsory bytes.
    pub bytes: u64,
    /// Median, ns.
    pub ns: f64,
    /// FLOP/B.
    pub intensity: f64,
    /// FLOP/s.
    pub rate: f64,
    /// Of what the roof allows at this intensity; `None` without a roof.
    pub share: Option<f64>,
}

/// Roofs of all devices that are known: measured where a bench did, else documented.
pub(crate) fn roofs(benches: &[Bench], known: &mut Known, documented: impl Fn(&Device) -> Option<Peak>) -> Vec<Roof> {
    let mut measured: Vec<(usize, Peak)> = Vec::new();
    for bench in benches {
        let place = known.place(&bench.device);
        // A bench with fewer threads measured what those can do.
        let all = bench.device.threads == 0 || bench.threads == bench.device.threads;
        if let Some([f32, f64, bytes]) = bench.peak.filter(|_| all) {
            let source =
                "measured by forgefield bench: multiply-adds in registers, a copy beyond the caches".to_owned();
            measured.push((place, Peak { f32, f64, bytes, source }));
        }
    }
    let mut found = Vec::new();
    for (place, device) in known.devices.iter().enumerate().filter(|(_, device)| !device.software) {
        let mine = measured.iter().filter(|(other, _)| *other == place).map(|(_, peak)| peak.clone());
        // Of several runs the highest rates: a roof is what can be reached.
        let best = mine.reduce(|a, b| Peak {
            f32: a.f32.max(b.f32),
            f64: a.f64.max(b.f64),
            bytes: a.bytes.max(b.bytes),
            source: a.source,
        });
        let Some(peak) = best.or_else(|| documented(device)) else { continue };
        for dtype in Dtype::ALL {
            let (flops, bytes, source) = (peak.flops(dtype), peak.bytes, peak.source.clone());
            found.push(Roof { device: place, dtype, flops, bytes, source });
        }
    }
    found
}

/// Points of what was tuned and of what was benched, where FLOPs and bytes are counted.
pub(crate) fn points(searches: &[Search], benches: &[Bench], roofs: &[Roof], known: &mut Known) -> Vec<Point> {
    let mut found = Vec::new();
    // Of backwards only a bench says which gradients it asked for, so only it counts them.
    let forward = |search: &&Search| search.subject.op == FusedMessage::NAME && search.subject.order == 0;
    for search in searches.iter().filter(forward) {
        let (Some(gain), Ok(variant)) = (&search.gain, search.subject.variant.parse()) else { continue };
        let cost = cost(&variant, &search.subject.problem, search.subject.dtype);
        let counted = Counted { flops: cost.flops, bytes: cost.compulsory_bytes, ns: gain.ns };
        found.extend(point(search.subject.clone(), "tuned", gain.config.to_string(), counted, roofs));
    }
    for bench in benches {
        let device = known.place(&bench.device);
        for row in &bench.rows {
            let Some(counted) = counted(row) else { continue };
            let subject = subject(row.op(), (&row.variant, 0), &row.problem, row.dtype, device);
            found.extend(point(subject, &format!("bench {}", row.case), row.config.to_string(), counted, roofs));
        }
    }
    found.retain(|point| !known.devices[point.subject.device].software);
    found
}

struct Counted {
    flops: u64,
    bytes: u64,
    ns: f64,
}

/// What a row of a bench computes and moves; `None` where that is not counted.
fn counted(row: &Row) -> Option<Counted> {
    let ns = row.timing.median_ns;
    if let Some(floor) = row.floor {
        return Some(Counted { flops: floor.flops, bytes: floor.bytes, ns });
    }
    // Without counts of its own a row with a floor is a forward call; lists have one and no FLOPs.
    let variant: fused_message::Variant = row.variant.parse().ok()?;
    row.floor_ns?;
    let cost = cost(&variant, &row.problem, row.dtype);
    Some(Counted { flops: cost.flops, bytes: cost.compulsory_bytes, ns })
}

fn point(subject: Subject, label: &str, config: String, counted: Counted, roofs: &[Roof]) -> Option<Point> {
    let Counted { flops, bytes, ns } = counted;
    // What has no FLOPs or takes no time has no place under a roof.
    if flops == 0 || bytes == 0 || !(ns.is_finite() && ns > 0.0) {
        return None;
    }
    let (intensity, rate) = (flops as f64 / bytes as f64, 1e9 * flops as f64 / ns);
    let roof = roofs.iter().find(|roof| (roof.device, roof.dtype) == (subject.device, subject.dtype));
    let share = roof.map(|roof| rate / roof.at(intensity));
    Some(Point { subject, label: label.to_owned(), config, flops, bytes, ns, intensity, rate, share })
}
