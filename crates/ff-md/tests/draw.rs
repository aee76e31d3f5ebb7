//! Structures drawn where a committee disagrees.

mod common;

use common::Einstein;
use ff_md::{DrawSettings, disagreement, draw};

/// Springs that two members agree on to 10 % and the third doubles.
fn committee(n: usize) -> Vec<Einstein> {
    [1.0, 1.1, 2.0].map(|k| Einstein::new(n, |_| k)).into()
}

fn settings() -> DrawSettings {
    DrawSettings {
        temperatures: vec![100.0, 1000.0],
        steps: 400,
        every: 20,
        timestep_fs: 1.0,
        friction_per_ps: 10.0,
        seed: 3,
        least: 0.0,
        most: f64::INFINITY,
        structures: 10,
    }
}

#[test]
fn disagreement_is_the_spread_of_the_worst_atom() {
    let a = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]];
    let b = [[0.0, 0.0, 0.0], [1.0, 3.0, 4.0]];
    // The mean is (1, 1.5, 2): both lie 2.5 from it.
    assert!((disagreement(&[&a, &b]) - 2.5).abs() < 1e-12);
    assert_eq!(disagreement(&[&a, &a, &a]), 0.0);
    let nan = [[f64::NAN, 0.0, 0.0], [1.0, 0.0, 0.0]];
    assert_eq!(disagreement(&[&a, &nan]), f64::INFINITY);
}

#[test]
fn the_largest_disagreements_are_drawn_and_repeatably() {
    let start = committee(4)[0].structure();
    let drawn = |settings: &DrawSettings| {
        draw(&mut committee(4), &[start.clone(), start.clone()], settings, &mut |_, _| true).expect("drawn")
    };
    let (few, summary) = drawn(&settings());
    assert_eq!((summary.looks, summary.candidates, summary.ended), (80, 80, 0));
    let (all, _) = drawn(&DrawSettings { structures: 1000, ..settings() });
    assert_eq!((few.len(), all.len()), (10, 80));
    assert_eq!(few[..], all[..10], "the same, and the largest");
    assert!(all.windows(2).all(|pair| pair[0].disagreement >= pair[1].disagreement));
    assert!((all[0].disagreement - summary.largest).abs() < 1e-12 && summary.mean < summary.largest);
    // Of springs that differ, hot structures disagree the most.
    assert!(few.iter().filter(|drawn| drawn.temperature == 1000.0).count() >= 8);
    // Forces −k·d with k = 1, 1.1, 2 spread by d·√(mean (k − k̄)²): what was drawn has that.
    let sites = &start.positions;
    let spread = |drawn: &ff_md::Drawn| {
        let far = drawn
            .structure
            .positions
            .iter()
            .zip(sites)
            .map(|(x, site)| x.iter().zip(site).map(|(x, site)| (x - site) * (x - site)).sum::<f64>().sqrt());
        let mean: f64 = 4.1 / 3.0;
        let width = ([1.0_f64, 1.1, 2.0].map(|k| (k - mean) * (k - mean)).iter().sum::<f64>() / 3.0).sqrt();
        far.fold(0.0, f64::max) * width
    };
    for drawn in &all {
        assert!((drawn.disagreement - spread(drawn)).abs() < 1e-9, "{} and {}", drawn.disagreement, spread(drawn));
    }
}

#[test]
fn limits_hold_and_trajectories_end_beyond() {
    let start = committee(4)[0].structure();
    let mut seen = Vec::new();
    let limited = DrawSettings { least: 0.1, most: 0.2, structures: 1000, ..settings() };
    let (drawn, summary) = draw(&mut committee(4), std::slice::from_ref(&start), &limited, &mut |done, all| {
        seen.push((done, all));
        true
    })
    .expect("drawn");
    assert!(drawn.iter().all(|drawn| (0.1..=0.2).contains(&drawn.disagreement)));
    assert_eq!((summary.ended, seen), (1, vec![(1, 2), (2, 2)]), "the hot one");
    let (_, stopped) =
        draw(&mut committee(4), std::slice::from_ref(&start), &settings(), &mut |_, _| false).expect("drawn");
    assert_eq!(stopped.looks, 20, "one trajectory");
    let alone = draw(&mut committee(4)[..1], &[start], &settings(), &mut |_, _| true).unwrap_err().to_string();
    assert_eq!(alone, "the committee is 1, expected two members or more");
}
