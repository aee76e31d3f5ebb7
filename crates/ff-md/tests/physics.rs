//! Integrators against theory, under potentials whose statistics are known. Seeds are fixed; errors are those of independent replicas.

mod common;

use common::{Einstein, Ideal, LennardJones, argon, expect_mean, mean, started};
use ff_md::units::{BAR, BOLTZMANN, EV_PER_AMU};
use ff_md::{Ensemble, MdError, Potential, Settings, Simulation, System};
use ff_structure::Structure;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

fn settings(ensemble: Ensemble, timestep_fs: f64, temperature: f64) -> Settings {
    Settings { timestep_fs, temperature, seed: 11, ..Settings::new(ensemble) }
}

fn take<P: Potential>(simulation: &mut Simulation<P>, steps: usize) {
    for _ in 0..steps {
        simulation.step().unwrap_or_else(|error| panic!("{error}"));
    }
}

/// 32 atoms of solid argon.
fn solid(settings: Settings) -> Simulation<LennardJones> {
    let system = started(argon(2, 5.4), 0, &settings);
    Simulation::new(LennardJones::argon(2.2, true), &[system], settings).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_energy_fluctuates_with_the_square_of_the_step() {
    let fluctuation = |dt: f64| {
        let mut simulation = solid(settings(Ensemble::Nve, dt, 60.0));
        let energies: Vec<f64> = (0..(4000.0 / dt) as usize)
            .map(|_| {
                take(&mut simulation, 1);
                simulation.observe(0).conserved
            })
            .collect();
        let (mean, _) = mean(&energies);
        (energies.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / energies.len() as f64).sqrt()
    };
    let (long, short) = (fluctuation(8.0), fluctuation(4.0));
    println!("{long:e} eV at 8 fs, {short:e} eV at 4 fs: {}", long / short);
    assert!((long / short - 4.0).abs() < 0.6, "{}", long / short);
}

#[test]
fn momentum_is_kept_to_rounding_and_time_can_be_reversed() {
    let mut keeps = settings(Ensemble::Nve, 4.0, 60.0);
    keeps.removes_drift = false;
    let mut simulation = solid(keeps);
    let momentum = |simulation: &Simulation<LennardJones>| -> [f64; 3] {
        let all = || simulation.velocities(0).iter().zip(simulation.masses(0));
        std::array::from_fn(|axis| all().map(|(v, mass)| mass * v[axis]).sum())
    };
    let (before, start) = (momentum(&simulation), simulation.structures()[0].positions.clone());
    let scale: f64 = simulation.velocities(0).iter().flatten().map(|v| v.abs()).sum::<f64>() * 39.948;
    assert!(before.iter().any(|p| p.abs() > 1e-3 * scale), "the crystal as a whole moves: {before:?}");
    take(&mut simulation, 500);
    let after = momentum(&simulation);
    assert!(before.iter().zip(after).all(|(p, q)| (p - q).abs() < 1e-13 * scale), "{before:?} {after:?}");
    let moved = simulation.structures()[0].positions.iter().zip(&start).map(|(x, y)| (x[0] - y[0]).abs());
    assert!(moved.fold(0.0, f64::max) > 0.1, "it has gone somewhere");
    simulation.reverse();
    take(&mut simulation, 500);
    for (x, y) in simulation.structures()[0].positions.iter().zip(&start) {
        assert!((0..3).all(|axis| (x[axis] - y[axis]).abs() < 1e-9), "{x:?} {y:?}");
    }
}

/// Oscillators of stiffness 1 to 10 eV/Å², no two alike.
fn crystal(n: usize) -> Einstein {
    let last = (3 * n - 1) as f64;
    Einstein::new(n, move |i| 1.0 + 9.0 * i as f64 / last)
}

/// (ω·dt/2)² of every oscillator of argon.
fn discretisation(crystal: &Einstein, dt: f64) -> Vec<f64> {
    crystal.stiffness.iter().flatten().map(|k| 0.25 * dt * dt * k * EV_PER_AMU / 39.948).collect()
}

#[test]
fn langevin_dynamics_of_a_harmonic_crystal_has_the_moments_of_baoab() {
    const N: usize = 48;
    let mut settings = settings(Ensemble::Langevin { friction_per_ps: 10.0 }, 10.0, 300.0);
    settings.removes_drift = false;
    let crystal = crystal(N);
    let kt = BOLTZMANN * settings.temperature;
    let steps = discretisation(&crystal, settings.timestep_fs);
    // Of a harmonic oscillator BAOAB has the positions' variance exactly and the velocities' times 1 − (ω·dt/2)².
    let kinetic = 0.5 * kt * steps.iter().map(|h| 1.0 - h).sum::<f64>();
    let variance = 0.5 * kt * kt * steps.iter().map(|h| (1.0 - h).powi(2)).sum::<f64>();
    let potential = 0.5 * kt * steps.len() as f64;
    assert!(kinetic < 0.98 * potential, "the step is long enough to be seen");
    let systems: Vec<System> = (0..16).map(|replica| started(crystal.structure(), replica, &settings)).collect();
    let mut simulation = Simulation::new(crystal, &systems, settings).unwrap_or_else(|error| panic!("{error}"));
    take(&mut simulation, 300);
    let mut sums = vec![[0.0; 3]; systems.len()];
    const STEPS: usize = 2500;
    for _ in 0..STEPS {
        take(&mut simulation, 1);
        for (system, sums) in sums.iter_mut().enumerate() {
            let values = simulation.observe(system);
            let all = [values.kinetic, (values.kinetic - kinetic).powi(2), values.potential];
            sums.iter_mut().zip(all).for_each(|(sum, value)| *sum += value / STEPS as f64);
        }
    }
    let of = |i: usize| sums.iter().map(|sums| sums[i]).collect::<Vec<f64>>();
    expect_mean("kinetic energy", &of(0), kinetic, 0.004);
    expect_mean("its variance", &of(1), variance, 0.06);
    expect_mean("potential energy", &of(2), potential, 0.02);
}

/// Standard normal variates.
fn normals(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || ((rng.next_u64() >> 11) as f64 + 0.5) * (-53f64).exp2();
    (0..n).map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()).collect()
}

#[test]
fn velocity_rescaling_of_a_harmonic_crystal_has_canonical_kinetic_energies() {
    const N: usize = 8;
    const REPLICAS: u64 = 96;
    let mut settings = settings(Ensemble::Bussi { thermostat_fs: 50.0 }, 10.0, 300.0);
    settings.removes_drift = false;
    let crystal = crystal(N);
    let kt = BOLTZMANN * settings.temperature;
    let steps = discretisation(&crystal, settings.timestep_fs);
    // One factor scales all velocities, so that uncoupled oscillators keep their shares of the energy: they begin with those of the
    // distribution that velocity Verlet keeps, of ½mv² + ½kx²(1 − (ω·dt/2)²).
    let systems: Vec<System> = (0..REPLICAS)
        .map(|replica| {
            let mut structure = crystal.structure();
            let entries = structure.positions.as_flattened_mut().iter_mut().zip(normals(replica, 3 * N));
            for ((x, normal), (k, h)) in entries.zip(crystal.stiffness.as_flattened().iter().zip(&steps)) {
                *x += normal * (kt / (k * (1.0 - h))).sqrt();
            }
            started(structure, replica, &settings)
        })
        .collect();
    let degrees = (3 * N) as f64;
    let mut simulation = Simulation::new(crystal, &systems, settings).unwrap_or_else(|error| panic!("{error}"));
    let first: Vec<f64> = (0..systems.len()).map(|system| simulation.observe(system).conserved).collect();
    const STEPS: usize = 1500;
    let mut sums = vec![[0.0; 2]; systems.len()];
    for _ in 0..STEPS {
        take(&mut simulation, 1);
        for (system, sums) in sums.iter_mut().enumerate() {
            let values = simulation.observe(system);
            sums[0] += values.kinetic / STEPS as f64;
            sums[1] += (values.kinetic - 0.5 * degrees * kt).powi(2) / STEPS as f64;
            // The energy less what the thermostat put in is that of velocity Verlet: constant but for (ω·dt/2)² of the potential's.
            let most = steps.iter().fold(0.0_f64, |a, b| a.max(*b));
            let apart = (values.conserved - first[system]).abs();
            assert!(apart < most * 4.0 * degrees * kt, "{apart} eV");
        }
    }
    let of = |i: usize| sums.iter().map(|sums| sums[i]).collect::<Vec<f64>>();
    expect_mean("kinetic energy", &of(0), 0.5 * degrees * kt, 0.01);
    expect_mean("its variance", &of(1), 0.5 * degrees * kt * kt, 0.08);
}

#[test]
fn an_ideal_gas_at_constant_pressure_has_the_volumes_of_theory() {
    const N: usize = 32;
    const PRESSURE: f64 = 100.0;
    for (removes_drift, seed) in [(false, 1), (true, 2)] {
        let ensemble = Ensemble::Npt {
            thermostat_fs: 20.0,
            barostat_fs: 200.0,
            pressure_bar: PRESSURE,
            compressibility_per_bar: 1.0 / PRESSURE,
            anisotropic: false,
        };
        let mut settings = settings(ensemble, 2.0, 300.0);
        (settings.removes_drift, settings.seed) = (removes_drift, seed);
        let unit = BOLTZMANN * settings.temperature / (PRESSURE * BAR);
        // V is a gamma variate: of N atoms exp(−PV/kT) Vᴺ, of one atom less where the centre of mass does not move.
        let shape = (N + 1 - usize::from(removes_drift)) as f64;
        let edge = (shape * unit).cbrt();
        let cell = [[edge, 0.0, 0.0], [0.0, edge, 0.0], [0.0, 0.0, edge]];
        let gas = Structure::periodic("gas", vec![18; N], vec![[0.0; 3]; N], cell);
        let systems: Vec<System> = (0..48).map(|replica| started(gas.clone(), replica, &settings)).collect();
        let mut simulation = Simulation::new(Ideal, &systems, settings).unwrap_or_else(|error| panic!("{error}"));
        take(&mut simulation, 500);
        const STEPS: usize = 5000;
        let mut sums = vec![[0.0; 2]; systems.len()];
        for _ in 0..STEPS {
            take(&mut simulation, 1);
            for (system, sums) in sums.iter_mut().enumerate() {
                let volume = simulation.observe(system).volume.expect("a cell");
                sums[0] += volume / STEPS as f64;
                sums[1] += (volume - shape * unit).powi(2) / STEPS as f64;
            }
        }
        let of = |i: usize| sums.iter().map(|sums| sums[i]).collect::<Vec<f64>>();
        expect_mean("volume", &of(0), shape * unit, 0.007);
        expect_mean("its variance", &of(1), shape * unit * unit, 0.1);
    }
}

#[test]
fn a_solid_at_constant_pressure_balances_every_component_of_the_pressure() {
    const PRESSURE: f64 = 2000.0;
    for anisotropic in [false, true] {
        let ensemble = Ensemble::Npt {
            thermostat_fs: 100.0,
            barostat_fs: 300.0,
            pressure_bar: PRESSURE,
            compressibility_per_bar: 3e-5,
            anisotropic,
        };
        let settings = settings(ensemble, 5.0, 40.0);
        let kt = BOLTZMANN * settings.temperature;
        let systems: Vec<System> = (0..6).map(|replica| started(argon(2, 5.2), replica, &settings)).collect();
        let potential = LennardJones::argon(1.8, true);
        let mut simulation = Simulation::new(potential, &systems, settings).unwrap_or_else(|error| panic!("{error}"));
        take(&mut simulation, 600);
        const STEPS: usize = 2400;
        // (P − P₀)·V: the trace over three, and entries xx and xy.
        let mut sums = vec![[0.0; 3]; systems.len()];
        for _ in 0..STEPS {
            take(&mut simulation, 1);
            for (system, sums) in sums.iter_mut().enumerate() {
                let values = simulation.observe(system);
                let (volume, stress) =
                    (values.volume.expect("a cell"), simulation.predictions()[system].stress.expect("a stress"));
                let flux = |a: usize, b: usize| -> f64 {
                    simulation.velocities(system).iter().map(|v| 39.948 * v[a] * v[b] / EV_PER_AMU).sum()
                };
                let excess = (values.pressure_bar.expect("a pressure") - PRESSURE) * BAR * volume;
                let xx = flux(0, 0) - stress[0][0] * volume - PRESSURE * BAR * volume;
                let xy = flux(0, 1) - stress[0][1] * volume;
                sums.iter_mut().zip([excess, xx, xy]).for_each(|(sum, value)| *sum += value / STEPS as f64);
            }
        }
        let of = |i: usize| sums.iter().map(|sums| sums[i] / kt).collect::<Vec<f64>>();
        // By parts in the strain: ⟨(P − P₀)V⟩ = −kT along the diagonal where it is free, and 0 beside it.
        // The barostat's own noise sets how well this is known; three times fewer terms are in one entry.
        let expected = [("trace", 0, -1.0, 12.0), ("xx", 1, -1.0, 21.0), ("xy", 2, 0.0, 21.0)];
        for (what, i, theory, most) in expected.into_iter().take(if anisotropic { 3 } else { 1 }) {
            let (mean, error) = mean(&of(i));
            println!("anisotropic {anisotropic}, {what}: {mean:.3} ± {error:.3} kT, theory {theory}");
            // P₀V is some 400 kT, so that a stress of the wrong sign is 800 kT off.
            assert!(error < most, "{what}: {error}");
            assert!((mean - theory).abs() < 4.0 * error, "{what}: {mean} ± {error}");
        }
        for system in 0..systems.len() {
            let drift = simulation.drift(system);
            println!("drift {drift:.5} meV/atom/ps");
            assert!(drift.abs() < 0.005, "the conserved quantity drifts by {drift} meV/atom/ps");
            let cell = simulation.structures()[system].cell.expect("a cell");
            assert_eq!(cell[0][1] != 0.0, anisotropic, "{cell:?}");
        }
    }
}

/// A point of NIST's reference simulations of the Lennard-Jones fluid (NVT Monte Carlo of 500 atoms).
#[test]
#[ignore = "a minute or more"]
fn a_lennard_jones_liquid_has_published_energy_and_pressure() {
    // T* = 0.85, ρ* = 0.82: U*/N = −5.7947, P* = 0.55355, cut at 3σ with the tail added.
    const RHO: f64 = 0.82;
    const CUTOFF: f64 = 3.0;
    let (epsilon, sigma) = (0.0104, 3.4);
    let temperature = 0.85 * epsilon / BOLTZMANN;
    let settings = settings(Ensemble::Langevin { friction_per_ps: 1.0 }, 8.0, temperature);
    let lattice = sigma * (4.0 / RHO).cbrt();
    let systems: Vec<System> = (0..4).map(|replica| started(argon(4, lattice), replica, &settings)).collect();
    let potential = LennardJones::argon(CUTOFF, false);
    let mut simulation = Simulation::new(potential, &systems, settings).unwrap_or_else(|error| panic!("{error}"));
    take(&mut simulation, 2500);
    const STEPS: usize = 6000;
    let mut sums = vec![[0.0; 2]; systems.len()];
    for _ in 0..STEPS {
        take(&mut simulation, 1);
        for (system, sums) in sums.iter_mut().enumerate() {
            let values = simulation.observe(system);
            sums[0] += values.potential / 256.0 / epsilon / STEPS as f64;
            sums[1] += values.pressure_bar.expect("a pressure") * BAR * sigma.powi(3) / epsilon / STEPS as f64;
        }
    }
    let (r3, r9) = (CUTOFF.powi(-3), CUTOFF.powi(-9));
    let pi = std::f64::consts::PI;
    let energy = 8.0 / 3.0 * pi * RHO * (r9 / 3.0 - r3);
    let pressure = 16.0 / 3.0 * pi * RHO * RHO * (2.0 / 3.0 * r9 - r3);
    let of = |i: usize, tail: f64| sums.iter().map(|sums| sums[i] + tail).collect::<Vec<f64>>();
    expect_mean("energy", &of(0, energy), -5.7947, 0.002);
    expect_mean("pressure", &of(1, pressure), 0.55355, 0.05);
}

#[test]
fn temperature_counts_what_moves() {
    let mut fixed = argon(2, 5.4);
    fixed.positions.truncate(3);
    fixed.species.truncate(3);
    let settings = settings(Ensemble::Nve, 1.0, 300.0);
    // Two of three atoms along all axes, the third along one: nothing of the centre of mass is taken out.
    let free = vec![[true; 3], [false; 3], [false, false, true]];
    for (free, degrees) in [(vec![[true; 3]; 3], 6.0), (free, 4.0)] {
        let temperatures: Vec<f64> = (0..4000)
            .map(|replica| {
                let mut system = System::new(fixed.clone(), replica).expect("masses");
                system.free.clone_from(&free);
                system.start(ff_md::Velocities::Drawn, &settings).expect("velocities");
                let simulation = Simulation::new(Ideal, &[system], settings).unwrap_or_else(|error| panic!("{error}"));
                let values = simulation.observe(0);
                let expected = 2.0 * values.kinetic / (degrees * BOLTZMANN);
                assert!((values.temperature - expected).abs() < 1e-9 * expected);
                values.temperature
            })
            .collect();
        expect_mean("temperature", &temperatures, 300.0, 0.02);
    }
}

#[test]
fn molecules_wrapped_across_a_boundary_change_nothing() {
    let settings = settings(Ensemble::Nve, 4.0, 50.0);
    let whole = argon(2, 5.4);
    let mut wrapped = whole.clone();
    let cell = whole.cell.expect("a cell");
    for (atom, x) in wrapped.positions.iter_mut().enumerate() {
        let by = [[0.0, 3.0, -2.0], [100.0, 0.0, 1.0], [0.0; 3]][atom % 3];
        for axis in 0..3 {
            x[axis] += by[0] * cell[0][axis] + by[1] * cell[1][axis] + by[2] * cell[2][axis];
        }
    }
    let energies = |structure: Structure| {
        let system = started(structure, 0, &settings);
        let potential = LennardJones::argon(2.2, true);
        let mut simulation = Simulation::new(potential, &[system], settings).unwrap_or_else(|error| panic!("{error}"));
        (0..300)
            .map(|_| {
                take(&mut simulation, 1);
                simulation.observe(0).potential
            })
            .collect::<Vec<f64>>()
    };
    for (a, b) in energies(whole).into_iter().zip(energies(wrapped)) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn a_replica_in_a_batch_has_the_bits_that_it_has_alone() {
    let npt = |anisotropic| Ensemble::Npt {
        thermostat_fs: 100.0,
        barostat_fs: 300.0,
        pressure_bar: 100.0,
        compressibility_per_bar: 3e-5,
        anisotropic,
    };
    for ensemble in [
        Ensemble::Nve,
        Ensemble::Langevin { friction_per_ps: 5.0 },
        Ensemble::Bussi { thermostat_fs: 50.0 },
        npt(false),
        npt(true),
    ] {
        let settings = settings(ensemble, 4.0, 50.0);
        let systems: Vec<System> = (0..3).map(|replica| started(argon(1, 5.3), replica, &settings)).collect();
        let run = |systems: &[System]| {
            let potential = LennardJones::argon(1.8, true);
            let mut simulation =
                Simulation::new(potential, systems, settings).unwrap_or_else(|error| panic!("{error}"));
            take(&mut simulation, 60);
            (0..systems.len())
                .map(|i| (simulation.structures()[i].clone(), simulation.velocities(i).to_vec(), simulation.observe(i)))
                .collect::<Vec<_>>()
        };
        let batch = run(&systems);
        assert!(batch[0].1 != batch[1].1, "replicas differ");
        for (i, together) in batch.iter().enumerate() {
            assert_eq!(*together, run(&systems[i..=i])[0], "{ensemble:?}, replica {i}");
        }
    }
}

#[test]
fn what_cannot_be_run_is_refused_or_ends_where_it_broke() {
    let nve = settings(Ensemble::Nve, 1.0, 300.0);
    let refused = |change: &dyn Fn(&mut System, &mut Settings), words: &[&str]| {
        let mut settings = nve;
        let mut system = started(argon(1, 5.3), 0, &settings);
        change(&mut system, &mut settings);
        let error = Simulation::new(Ideal, &[system], settings).err().expect("an error").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(&|_, settings| settings.timestep_fs = 0.0, &["the time step is 0", "more than 0 and at most 10 fs"]);
    refused(&|_, settings| settings.timestep_fs = 11.0, &["the time step is 11"]);
    refused(&|_, settings| settings.timestep_fs = f64::NAN, &["the time step is NaN"]);
    refused(&|_, settings| settings.temperature = -1.0, &["the temperature is -1"]);
    refused(&|system, _| system.masses[2] = 0.0, &["system 0 (`argon`)", "atom 2 has mass 0"]);
    refused(&|system, _| system.masses[1] = f64::NAN, &["atom 1 has mass NaN"]);
    let npt = Ensemble::Npt {
        thermostat_fs: 100.0,
        barostat_fs: 500.0,
        pressure_bar: 1.0,
        compressibility_per_bar: 1e-5,
        anisotropic: false,
    };
    let open = |system: &mut System, settings: &mut Settings| {
        (system.structure.cell, system.structure.pbc, settings.ensemble) = (None, [false; 3], npt);
    };
    refused(&open, &["constant pressure needs a cell", "volume of 0"]);
    let held = |system: &mut System, settings: &mut Settings| {
        (system.free[0], settings.ensemble) = ([false; 3], npt);
    };
    refused(&held, &["some atoms are fixed"]);
    let all_held = |system: &mut System, settings: &mut Settings| {
        (system.free, settings.ensemble) = (vec![[false; 3]; 4], Ensemble::Langevin { friction_per_ps: 1.0 });
    };
    refused(&all_held, &["nothing moves"]);

    // Two atoms that meet at speed: the force is beyond the limit at one step, and the error says where.
    let mut system =
        System::new(Structure::open("pair", vec![18; 2], vec![[0.0; 3], [5.5, 0.0, 0.0]]), 0).expect("masses");
    system.velocities = Some(vec![[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]]);
    let potential = LennardJones::argon(2.2, true);
    let settings = Settings { timestep_fs: 5.0, ..nve };
    let mut simulation = Simulation::new(potential, &[system], settings).unwrap_or_else(|error| panic!("{error}"));
    let error = (0..100).find_map(|_| simulation.step().err()).expect("they meet");
    let text = error.to_string();
    let step = simulation.step_number() + 1;
    assert!(matches!(error, MdError::Diverged { step: at, .. } if at == step), "{text}");
    for word in [&format!("step {step}: system 0 (`pair`)"), "the force on atom 0 is", "at most 500 eV/Å"] {
        assert!(text.contains(word), "{text}");
    }

    // A pressure that nothing withstands.
    let npt = Ensemble::Npt {
        thermostat_fs: 50.0,
        barostat_fs: 100.0,
        pressure_bar: 1e5,
        compressibility_per_bar: 1e-5,
        anisotropic: false,
    };
    let settings = settings_of(npt);
    let system = started(argon(2, 5.3), 0, &settings);
    let mut simulation = Simulation::new(Ideal, &[system], settings).unwrap_or_else(|error| panic!("{error}"));
    let error = (0..10_000).find_map(|_| simulation.step().err()).expect("it collapses").to_string();
    assert!(error.contains("the cell has shrunk to") && error.contains("10.600 Å apart"), "{error}");
}

fn settings_of(ensemble: Ensemble) -> Settings {
    settings(ensemble, 1.0, 300.0)
}
