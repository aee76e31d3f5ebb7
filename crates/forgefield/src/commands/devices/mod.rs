//! `devices`: what can run here.

pub mod args;

use ff_spec::{Atomics, Clock, DeviceId, RuntimeKind, SCHEMA_VERSION};
use serde::Serialize;

use self::args::DevicesArgs;
use crate::failure::Result;
use crate::runtimes;
use crate::screen::{Paint, Screen};

#[derive(Serialize)]
struct Report {
    schema: u32,
    /// What `--runtime auto` takes.
    auto: RuntimeKind,
    devices: Vec<Device>,
    unavailable: Vec<Unavailable>,
}

#[derive(Serialize)]
struct Device {
    #[serde(flatten)]
    id: DeviceId,
    clock: Clock,
}

#[derive(Serialize)]
struct Unavailable {
    runtime: RuntimeKind,
    reason: String,
}

/// Prints what can run here.
pub fn run(args: &DevicesArgs, screen: &Screen) -> Result<()> {
    let (mut devices, mut unavailable) = (Vec::new(), Vec::new());
    for runtime in RuntimeKind::ALL {
        match runtimes::of(runtime) {
            Ok(open) => devices.push(Device { id: open.device().clone(), clock: open.clock() }),
            Err(error) => unavailable.push(Unavailable { runtime, reason: error.to_string() }),
        }
    }
    let auto = runtimes::fastest()?.device().runtime;
    if args.json {
        return screen.json(&Report { schema: SCHEMA_VERSION, auto, devices, unavailable });
    }
    screen.line(format!("auto uses {auto}"))?;
    for device in &devices {
        screen.line("")?;
        for line in lines(device, screen) {
            screen.line(line)?;
        }
    }
    if !unavailable.is_empty() {
        screen.line("")?;
    }
    for Unavailable { reason, .. } in &unavailable {
        screen.line(reason)?;
    }
    Ok(())
}

fn lines(Device { id, clock }: &Device, screen: &Screen) -> Vec<String> {
    let DeviceId { runtime, name, slug, arch, driver, software, threads, limits, atomics, f64 } = id;
    let mut lines = vec![screen.paint(Paint::Bold, format!("{runtime}: {name}"))];
    if *software {
        let text = "software adapter: it checks results and says nothing about hardware speed";
        lines.push(format!("  {}", screen.paint(Paint::Yellow, text)));
    }
    let kib = limits.shared_memory / 1024;
    if *runtime == RuntimeKind::Host {
        lines.push(format!("  SIMD      {arch}, {} f32 lanes", limits.plane_size));
        lines.push(format!("  threads   {threads}"));
        lines.push(format!("  L1 data   {kib} KiB per core"));
    } else {
        let driver = if driver.is_empty() { String::new() } else { format!(", driver {driver}") };
        lines.push(format!("  kind      {arch}{driver}"));
        let (units, plane) = (limits.max_units_per_cube, limits.plane_size);
        lines.push(format!("  limits    {units} units and {kib} KiB shared memory per cube, planes of {plane}"));
    }
    lines.push(format!("  types     f32{}", if *f64 { ", f64" } else { "; no f64" }));
    let atomics = match atomics {
        Atomics { f32_add: true, f64_add: true } => "f32, f64",
        Atomics { f32_add: true, f64_add: false } => "f32; no f64",
        Atomics { f32_add: false, f64_add: true } => "f64; no f32",
        Atomics { f32_add: false, f64_add: false } => "none",
    };
    lines.push(format!("  atomic +  {atomics}"));
    let clock = match clock {
        Clock::Device => "the device's own timestamps",
        Clock::Wall => "this processor's monotonic clock",
    };
    lines.push(format!("  clock     {clock}"));
    lines.push(format!("  slug      {slug}"));
    lines
}
