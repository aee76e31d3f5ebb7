use super::*;

fn read(content: &str, options: &LabelOptions) -> Result<Vec<Labelled>, String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("f.extxyz");
    std::fs::write(&path, content).expect("a written file");
    let prefix = format!("{}{}", dir.path().display(), std::path::MAIN_SEPARATOR);
    read_labelled(&path, options).map(|(frames, _)| frames).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn frame(info: &str, columns: &str, atom: &str) -> String {
    format!("1\nProperties=species:S:1:pos:R:3{columns} {info}\nH 0 0 0 {atom}\n")
}

const CELL: &str = "Lattice=\"2 0 0 0 2 0 0 0 2\"";

#[test]
fn labels_are_found_under_the_usual_spellings() {
    for (energy, forces) in [
        ("energy", "forces"),
        ("REF_energy", "REF_forces"),
        ("ref_energy", "ref_forces"),
        ("DFT_energy", "DFT_forces"),
        ("dft_energy", "dft_forces"),
        ("Energy", "force"),
        ("free_energy", "Forces"),
        ("TotEnergy", "force"),
    ] {
        let text = frame(&format!("{energy}=-1.5"), &format!(":{forces}:R:3"), "1 2 3");
        let frames = read(&text, &LabelOptions::default()).unwrap();
        assert_eq!((frames[0].energy, &frames[0].forces), (Some(-1.5), &Some(vec![[1.0, 2.0, 3.0]])), "{energy}");
    }
    // A reference goes before a prediction that stands beside it.
    let text = frame("energy=1 REF_energy=2", ":forces:R:3:REF_forces:R:3", "1 1 1 2 2 2");
    let frames = read(&text, &LabelOptions::default()).unwrap();
    assert_eq!((frames[0].energy, &frames[0].forces), (Some(2.0), &Some(vec![[2.0; 3]])));
    // Keys that are given: the others are looked for all the same.
    let keys = Keys { energy: Some("mine".into()), ..Keys::default() };
    let text = frame("energy=1 mine=3", ":forces:R:3", "1 1 1");
    let frames = read(&text, &LabelOptions { keys, ..LabelOptions::default() }).unwrap();
    assert_eq!((frames[0].energy, &frames[0].forces), (Some(3.0), &Some(vec![[1.0; 3]])));
}

#[test]
fn units_are_converted_and_virials_become_stress() {
    let units = Units { energy: Energy::Hartree, length: Length::Bohr, stress: StressUnit::OfTheOthers };
    let text = frame(&format!("{CELL} energy=2 virial=\"8 0 0 0 0 0 0 0 0\""), ":forces:R:3", "1 0 0");
    let options = LabelOptions { units, ..LabelOptions::default() };
    let frame_read = &read(&text, &options).unwrap()[0];
    let (ha, bohr) = (27.211_386_245_988, 0.529_177_210_903);
    assert_eq!(frame_read.energy, Some(2.0 * ha));
    let close = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found} {expected}")
    };
    close(frame_read.forces.as_ref().unwrap()[0][0], ha / bohr);
    close(frame_read.structure.cell.unwrap()[0][0], 2.0 * bohr);
    // −virial/V, with V = 8 Bohr³.
    close(frame_read.stress.unwrap()[0][0], -ha / bohr.powi(3));
    let units = Units { stress: StressUnit::Kilobar, ..Units::default() };
    let text = frame(&format!("{CELL} stress=\"10 20 30 0 0 0\""), "", "");
    let stress = read(&text, &LabelOptions { units, ..LabelOptions::default() }).unwrap()[0].stress.unwrap();
    close(stress[1][1], 2.0 / GPA);
    // A molecule has no stress, whatever its box.
    let text = frame(&format!("{CELL} pbc=\"F F F\" energy=1 stress=\"1 1 1 0 0 0\""), "", "");
    assert_eq!(read(&text, &LabelOptions::default()).unwrap()[0].stress, None);
}

#[test]
fn errors_say_where_and_what() {
    let options = LabelOptions::default();
    let required = Required { energy: true, forces: true, stress: true };
    let all = LabelOptions { required, ..options.clone() };
    let good = frame("energy=1", ":forces:R:3", "1 1 1");
    for (text, options, expected) in [
        (
            frame("charge=1 energy=1", ":tags:I:1", "1"),
            &all,
            "f.extxyz: frame 1: expected a label of forces (`forces` or `force` or `Forces`), \
             found `charge`, `energy`, column `tags`",
        ),
        (
            frame(&format!("{CELL} energy=1"), ":forces:R:3", "1 1 1"),
            &all,
            "f.extxyz: frame 1: expected a label of stress or virial (`stress` or `virial` or `virials`), \
             found `energy`, column `forces`",
        ),
        (
            good.clone() + &frame("energy=nan", "", ""),
            &options,
            "f.extxyz:5: frame 2: expected a finite number for energy, found NaN",
        ),
        (
            good.clone() + &frame("energy=1", ":forces:R:2", "1 1"),
            &options,
            "f.extxyz:5: frame 2: expected a column `forces:R:3`, found `forces:R:2`",
        ),
        (
            good.clone() + &frame("REF_energy=1", "", ""),
            &options,
            "f.extxyz: frame 2: expected labels spelled as in frame 1 (`energy`), found `REF_energy` alone; give the keys to read",
        ),
        (
            frame("", "", ""),
            &options,
            "f.extxyz: expected labelled frames (`energy` with or without REF_, ref_, DFT_, dft_, `forces` with or without \
             REF_, ref_, DFT_, dft_, `stress` with or without REF_, ref_, DFT_, dft_, `virial` with or without REF_, ref_, \
             DFT_, dft_), found none among 1",
        ),
    ] {
        assert_eq!(read(&text, options).map(|_| ()).unwrap_err(), expected);
    }
    // A frame without labels among others is given without.
    let frames = read(&(good + &frame("", "", "")), &options).unwrap();
    assert_eq!((frames[1].energy, frames[1].frame), (None, 2));
}

/// Ethanol's total energy in eV by PBE, −4209 eV, and forces as in MD.
fn ethanol(energy: f64, force: f64) -> Labelled {
    let species = vec![6, 6, 8, 1, 1, 1, 1, 1, 1];
    let structure = Structure::open("ethanol", species, vec![[0.0; 3]; 9]);
    Labelled { structure, frame: 1, energy: Some(energy), forces: Some(vec![[force, 0.0, 0.0]; 9]), stress: None }
}

#[test]
fn units_are_hinted_at_by_medians() {
    let said = |units: Units, energy: f64, force: f64| {
        let mut hints = UnitHints::default();
        (0..5).for_each(|_| hints.look(&ethanol(energy, force)));
        hints.hints(units).iter().map(|hint| (hint.label, hint.meant)).collect::<Vec<_>>()
    };
    let (ev, ha, kcal) = (1.0, 1.0 / 27.2114, 23.06);
    let default = Units::default();
    assert_eq!(said(default, -4209.4 * ev, 1.5 * ev), []);
    // Of pseudopotentials, and of energies above those of free atoms.
    assert_eq!(said(default, -46.0, 1.5), []);
    assert_eq!(said(default, -33.0, 1.5), []);
    let hartree = [(Label::Energy, Energy::Hartree), (Label::Forces, Energy::Hartree)];
    assert_eq!(said(default, -4209.4 * ha, 1.5 * ha * 0.529), hartree);
    let calorie = [(Label::Energy, Energy::KilocaloriePerMole), (Label::Forces, Energy::KilocaloriePerMole)];
    assert_eq!(said(default, -4209.4 * kcal, 1.5 * kcal), calorie);
    // Told that it is Hartree where it is eV.
    let units = Units { energy: Energy::Hartree, ..default };
    let electronvolt = [(Label::Energy, Energy::ElectronVolt), (Label::Forces, Energy::ElectronVolt)];
    assert_eq!(said(units, -4209.4 * 27.2114, 1.5 * 27.2114), electronvolt);
}

#[test]
fn duplicates_are_found_within_and_across_sets() {
    let mut duplicates = Duplicates::default();
    let a = Structure::open("a", vec![1, 8], vec![[0.0; 3], [1.0, 0.0, 0.0]]);
    let mut b = a.clone();
    b.name = "b".into();
    b.positions[0][0] = -1e-9;
    let mut other = a.clone();
    other.positions[1][0] += 1e-3;
    let mut element = a.clone();
    element.species[0] = 9;
    assert_eq!(duplicates.look(0, 1, &a), None);
    assert_eq!(duplicates.look(0, 2, &other), None);
    assert_eq!(duplicates.look(1, 1, &element), None);
    assert_eq!(duplicates.look(1, 2, &b), Some((0, 1)));
    assert_eq!(duplicates.look(0, 1, &a), None, "itself");
}

#[test]
fn samples_are_thinned_evenly() {
    let mut sample = Sample::default();
    (0..100_000).for_each(|i| sample.push(f64::from(i)));
    assert!(sample.values.len() <= Sample::MOST);
    let median = sample.median().unwrap();
    // One step of the thinned stream: 32 values.
    assert!((median - 50_000.0).abs() <= 64.0, "{median}");
}
