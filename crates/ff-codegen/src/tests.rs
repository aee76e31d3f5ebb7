//! Tests over the whole path from TOML to text, and over every radial function in the tree.

use std::path::Path;

use exmex::Express;

use crate::lower::Target;
use crate::parse::{Scope, parse};
use crate::radial::{ORDERS, Radial, RadialKind};
use crate::{CodegenError, Sources, generate};

/// The sources in the tree.
fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    Sources::load(root).unwrap()
}

fn radial() -> Vec<Radial> {
    Radial::load_all(&sources(), "kernel-templates/fused_message").unwrap()
}

/// (r_c, k, K, d) on a grid that includes d = 0, d = r_c and points beside them.
fn grid() -> impl Iterator<Item = (f64, usize, usize, f64)> {
    [1.5, 5.0].into_iter().flat_map(|r_c| {
        [(1, 1), (1, 8), (3, 8), (20, 20)].into_iter().flat_map(move |(k, n_basis)| {
            [0.0, 1e-6, 0.05, 0.3, 0.5, 0.77, 0.95, 1.0].into_iter().map(move |x| (r_c, k, n_basis, x * r_c))
        })
    })
}

/// The largest magnitude of a derivative on [0, r_c]: what errors are judged against, since values pass through zero.
fn scale(radial: &Radial, order: usize, r_c: f64, k: usize, n_basis: usize) -> f64 {
    (0..=60)
        .map(|i| {
            let v = radial.variables(r_c * f64::from(i) / 60.0, r_c, k, n_basis);
            radial.functions[order].eval(&|name| v[name], &|x| x).abs()
        })
        .fold(0.0, f64::max)
}

/// Compares every derivative with eighth-order central differences of the one below it.
fn check_derivatives(radial: &Radial) {
    for (r_c, k, n_basis, d) in grid() {
        for order in 0..ORDERS - 1 {
            let at = |order: usize, d: f64| {
                let v = radial.variables(d, r_c, k, n_basis);
                radial.functions[order].eval(&|name| v[name], &|x| x)
            };
            // Every function here is smooth across 0 and r_c. The narrowest feature is 0.014 r_c wide: truncation (h/0.014)⁸
            // and rounding 1e-16/h are both far below 1e-10.
            let h = r_c * 2e-4;
            let weights = [4.0 / 5.0, -1.0 / 5.0, 4.0 / 105.0, -1.0 / 280.0];
            let difference = |i: usize| at(order, d + i as f64 * h) - at(order, d - i as f64 * h);
            let slope: f64 = (1..=4).map(|i| weights[i - 1] * difference(i) / h).sum();
            let found = at(order + 1, d);
            let tolerance = 1e-10 * scale(radial, order + 1, r_c, k, n_basis);
            assert!(
                (found - slope).abs() <= tolerance,
                "`{}`, derivative {} at d = {d}, r_c = {r_c}, k = {k} of {n_basis}: {found}, by differences {slope}",
                radial.formula,
                order + 1
            );
        }
    }
}

#[test]
fn derivatives_agree_with_finite_differences() {
    radial().iter().for_each(check_derivatives);
}

/// What the files in the tree do not have: quotients, roots, logarithms, powers of functions, sums within sums.
#[test]
fn derivatives_of_other_formulas_agree_with_finite_differences() {
    for formula in [
        "1/(1 + d^2)",
        "tanh(k*d/r_c)/(1 + d)^2",
        "ln(2 + d/r_c)*sqrt(4 + d^2)",
        "exp(-d)*cos(k*pi*d/(2*r_c))",
        "(d - r_c)^2*sinc(2*d)^3",
        "exp(-d^2/(3 + d))*(1 - (d - 1)*(2 - (d + k)^2))",
        "sqrt(1 + exp(-(d - 1)^2))^3",
        "0.1*d^5 - d*(d*(d - 3) + 1/3)",
    ] {
        let text = format!("kind = \"basis\"\nformula = \"{formula}\"\nsource = \"s\"\ndoc = \"d\"\n");
        check_derivatives(&Radial::load("bases/test.toml", "test", &text).unwrap());
    }
}

#[test]
fn the_readme_example_is_accepted() {
    let readme = include_str!("../../../kernel-templates/fused_message/README.md");
    let blocks = readme.split("```toml").skip(1).filter_map(|rest| rest.split("```").next());
    let example = blocks.into_iter().find(|b| b.contains("kind = \"basis\"")).expect("the README shows a basis");
    let text: Vec<&str> = example.lines().map(str::trim).collect();
    check_derivatives(&Radial::load("bases/example.toml", "example", &text.join("\n")).unwrap());
}

#[test]
fn values_agree_with_exmex() {
    for radial in radial() {
        // exmex has neither sinc nor flat and calls π PI; the grid's d = 0 is left out for a formula that then divides by zero.
        let spelt_out = |name: &str| {
            let (before, argument) = radial.formula.split_once(name)?;
            Some((before, argument.strip_suffix(')').unwrap()))
        };
        let text = match (spelt_out("sinc("), spelt_out("flat(")) {
            (Some((before, argument)), _) => format!("{before}(sin({argument})/({argument}))"),
            (_, Some((before, argument))) => format!("{before}exp(1 - 1/({argument}))"),
            _ => radial.formula.clone(),
        };
        let expected = exmex::parse::<f64>(&text.replace("pi", "PI")).unwrap();
        let variables: Vec<&str> = radial.arguments().collect();
        let parsed = parse(&radial.formula, Scope { variables: &variables, max: false }).unwrap();
        for (r_c, k, n_basis, d) in grid().filter(|(.., d)| *d > 0.0 || !radial.formula.contains("sinc")) {
            let v = radial.variables(d, r_c, k, n_basis);
            let values: Vec<f64> = expected.var_names().iter().map(|name| v[name.as_str()]).collect();
            let expected = expected.eval(&values).unwrap();
            let lowered = radial.functions[0].eval(&|name| v[name], &|x| x);
            let tolerance = 1e-14 * scale(&radial, 0, r_c, k, n_basis);
            for found in [parsed.eval(&|name| v[name]), lowered] {
                assert!((found - expected).abs() <= tolerance, "{} at {d}: {found}, exmex {expected}", radial.name);
            }
        }
    }
}

/// x, and f, f′, f″, f‴ of exp(1 − 1/(1 − x²)) there, from Taylor series in decimal arithmetic of 80 digits.
const MOLLIFIER: [(f64, [f64; 4]); 9] = [
    (0.0, [1.0, 0.0, -2.0, 0.0]),
    (0.3, [0.9058322914025679, -0.6563209453466258, -2.577677198304161, -4.074645648036995]),
    (0.7, [0.38259269556636666, -2.0593224674852486, -3.163577163484508, 28.845243209457188]),
    (0.95, [9.549752219557577e-05, -0.019086947236985525, 3.050886601402041, -350.21863852185714]),
    (0.99, [4.078037078607729e-22, -2.0389670502369354e-18, 9.786774052742437e-15, -4.497704108546278e-11]),
    (0.999, [1.5080842205194566e-217, -7.540419215605474e-212, 3.755127822099986e-206, -1.8625278452827855e-200]),
    // e^(−524288), which no double holds.
    (1.0 - 1.0 / 1048576.0, [0.0; 4]),
    (1.0, [0.0; 4]),
    (1.5, [0.0; 4]),
];

fn mollifier() -> Radial {
    radial().into_iter().find(|radial| radial.name == "mollifier").expect("it is in the tree")
}

#[test]
fn the_mollifier_equals_its_series_up_to_the_cutoff() {
    // A power of two, so that d = x·r_c is exact.
    let (radial, r_c) = (mollifier(), 4.0);
    for (x, expected) in MOLLIFIER {
        for (order, function) in radial.functions.iter().enumerate() {
            let expected = expected[order] / f64::powi(r_c, order as i32);
            let found = function.eval(&|v| if v == "d" { x * r_c } else { r_c }, &|x| x);
            // The exponent is up to 500, whose rounding is multiplied by itself: 500 · 2⁻⁵³ and a few times that.
            assert!(
                (found - expected).abs() <= 1e-12 * expected.abs(),
                "x = {x}, derivative {order}: {found:e}, expected {expected:e}"
            );
        }
    }
}

/// In f32, where 1/(1 − x²) to the fourth overflows beside r_c and exp has underflowed long before: every number, not some.
#[test]
fn the_mollifier_is_finite_at_every_f32_beside_the_cutoff() {
    let radial = mollifier();
    for r_c in [4.0f32, 5.0, 0.7, 12.3] {
        let far = (1..=400).map(|i| r_c * i as f32 / 400.0);
        // Beyond r_c too, by a little.
        let near = (-70_000..=16).map(|i| f32::from_bits((i64::from(r_c.to_bits()) + i) as u32));
        let all: Vec<f32> = far.chain(near).collect();
        for (order, function) in radial.functions.iter().enumerate() {
            let scale = scale(&radial, order, f64::from(r_c), 1, 1);
            for d in &all {
                let found = function.eval(&|v| f64::from(if v == "d" { *d } else { r_c }), &|x| f64::from(x as f32));
                // The grid of `scale` misses the largest value by less than this.
                assert!(found.abs() <= 1.1 * scale, "derivative {order} at {d} of {r_c}: {found}");
                // √(1 − 1/512) < 0.9991: from there on `flat` is 0.
                assert!(*d < 0.9991 * r_c || found == 0.0, "derivative {order} at {d} of {r_c}: {found}");
            }
        }
    }
}

#[test]
fn flat_is_smooth_where_it_ends() {
    let until = crate::expr::FLAT_UNTIL;
    let text = "kind = \"basis\"\nformula = \"flat(d)\"\nsource = \"s\"\ndoc = \"d\"\n";
    let radial = Radial::load("bases/test.toml", "test", text).unwrap();
    for (order, function) in radial.functions.iter().enumerate() {
        let at = |d: f64| function.eval(&|v| if v == "d" { d } else { 1.0 }, &|x| x);
        assert_eq!([0.0, 1e-300, 0.5 * until, until, -1.0].map(at), [0.0; 5], "derivative {order}");
        let first = at(until * (1.0 + f64::EPSILON)).abs();
        // e^(−511) 512⁶: nothing beside 1, and yet what the function is there.
        assert!(0.0 < first && first < 1e-200, "derivative {order} starts with {first:e}");
    }
    assert_eq!(radial.functions[0].eval(&|_| 1.0, &|x| x), 1.0);
}

/// Rounding every operation to `f32` must not lose more than a few of its units in any derivative: the straight-line form
/// may not cancel where the formula does not.
#[test]
fn straight_line_code_is_stable_in_f32() {
    for radial in radial() {
        for (r_c, k, n_basis, d) in grid() {
            let v = radial.variables(d, r_c, k, n_basis);
            // Rounded inputs for both, so that only the arithmetic differs.
            let input = |name: &str| f64::from(v[name] as f32);
            for (order, function) in radial.functions.iter().enumerate() {
                let exact = function.eval(&input, &|x| x);
                let found = function.eval(&input, &|x| f64::from(x as f32));
                // The argument of the widest exponential or sine is up to 200 units, whose rounding is multiplied
                // by the argument itself: 200 · 2⁻²⁴ ≈ 1.2e-5.
                let tolerance = 2e-5 * scale(&radial, order, r_c, k, n_basis);
                assert!(
                    (found - exact).abs() <= tolerance,
                    "{} d{order} at {d} of {r_c}, k = {k} of {n_basis}: {found}, exact {exact}",
                    radial.name
                );
            }
        }
    }
}

#[test]
fn formulas_mean_what_mathematics_means() {
    let scope = Scope { variables: &["d", "k"], max: true };
    let value = |text: &str| parse(text, scope).unwrap().eval(&|name| if name == "d" { 3.0 } else { 2.0 });
    for (text, expected) in [
        ("-d^2", -9.0),
        ("2^-k^0", 0.5),
        ("2^3^2", 512.0),
        ("d - k - 1", 0.0),
        ("12/d/k", 2.0),
        ("12/d*k", 8.0),
        ("--d", 3.0),
        (" exp( 0 )*1.5e1 + .5", 15.5),
        ("max(d, k)^2", 9.0),
        ("sinc(0) + sinc(0*d)", 2.0),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
    // What exmex reads the same way, in its own arithmetic.
    for text in
        ["(d + 1)/(k - 5)*d^3 - 2/k^2", "exp(-(d^2)/7)*sin(k*d) + tanh(d - 2)*ln(k + 1)/sqrt(d)", "1 - (2 - (3 - d))*k"]
    {
        let expected = exmex::parse::<f64>(text).unwrap().eval(&[3.0, 2.0]).unwrap();
        let found = value(text);
        assert!((found - expected).abs() <= 1e-15 * expected.abs(), "{text}: {found}, exmex {expected}");
    }
}

/// What a file with this formula and these parameter tables is refused for.
fn refusal(kind: &str, formula: &str, rest: &str) -> String {
    let text = format!("kind = \"{kind}\"\nformula = \"{formula}\"\nsource = \"s\"\ndoc = \"d\"\n{rest}");
    Radial::load("bases/test.toml", "test", &text).expect_err("this file should be refused").to_string()
}

#[test]
fn malformed_files_are_refused_with_what_was_expected() {
    let beta = "[parameters.beta]\nper_basis = false\ndefault = \"1/r_c\"\ndoc = \"x\"\n";
    for (found, expected) in [
        (refusal("basis", "exp(-d*k", ""), "bases/test.toml: formula, column 9: expected `)`, found the end"),
        (refusal("basis", "exp(-d) k", ""), "column 9: expected an operator or the end, found `k`"),
        (refusal("basis", "d +", ""), "column 4: expected a number, a name or `(`, found the end"),
        (refusal("basis", "1.2.3*d", ""), "column 1: expected a number, found `1.2.3`"),
        (
            refusal("basis", "sinn(d)", ""),
            "unknown function `sinn`, expected one of exp, sin, cos, tanh, sqrt, ln, sinc, flat",
        ),
        (refusal("basis", "sinn(d)", ""), "(nearest: `sin`)"),
        (refusal("basis", "max(d, k)", ""), "unknown function `max`"),
        (
            refusal("basis", "exp(-bta*d)", beta),
            "unknown variable `bta`, expected one of d, r_c, k, beta, pi (nearest: `beta`)",
        ),
        (refusal("basis", "flat_inverse(d)", ""), "unknown function `flat_inverse`"),
        (refusal("basis", "n_basis*d", ""), "unknown variable `n_basis`"),
        (refusal("cutoff", "k*d", ""), "unknown variable `k`, expected one of d, r_c, pi"),
        (refusal("basis", "d^0.5", ""), "column 3: expected an integer exponent, found 0.5"),
        (refusal("basis", "2^d", ""), "expected an integer exponent, found an expression"),
        (refusal("basis", "exp(-d)", beta), "parameter `beta` is declared, expected the formula `exp(-d)` to use it"),
        (refusal("basis", "exp(-mu*d)", &beta.replace("beta", "Mu")), "parameter `Mu` has to be lower-case"),
        (
            refusal("basis", "exp(-t1*d)", &beta.replace("beta", "t1")),
            "parameter `t1` is reserved for the `let` bindings",
        ),
        (refusal("basis", "exp(-k*d)", &beta.replace("beta", "k")), "parameter `k` is reserved"),
        (refusal("basis", "exp(-beta*d)", &beta.replace("1/r_c", "1/(r_c - 5)")), "parameters.beta.default is inf"),
        (
            refusal("basis", "exp(-beta*d)", &beta.replace("1/r_c", "k")),
            "parameters.beta.default, column 1: unknown variable `k`",
        ),
        (refusal("basis", "sin(k*d)/d", ""), "the value of `sin(k*d)/d` is NaN at d = 0"),
        (refusal("basis", "sin(k*d)/d", ""), "write sinc(x) = sin(x)/x"),
        (refusal("basis", "d*sqrt(d)", ""), "the first derivative of"),
        (refusal("cutoff", "1 - d/r_c", ""), "a cutoff's slope at r_c is -1e0 for r_c = 1, expected 0"),
        (refusal("cutoff", "2*cos(pi*d/(2*r_c))^2", ""), "a cutoff's value at 0 is 2e0"),
        (refusal("cutoff", "cos(pi*d/(4*r_c))^2", ""), "a cutoff's value at r_c is"),
        (refusal("bases", "d", ""), "(nearest: `basis`)"),
        (refusal("basis", "d", "fromula = \"x\"\n"), "unknown field `fromula`"),
        (refusal("basis", "d", "fromula = \"x\"\n"), "(nearest: `formula`)"),
        (refusal("basis", "beta*d", &beta.replace("default", "defualt")), "(nearest: `default`)"),
        (refusal("basis", "beta*d", "[parameters.beta]\nper_basis = false\ndoc = \"x\"\n"), "missing field `default`"),
    ] {
        assert!(found.contains(expected), "expected `{expected}` in: {found}");
    }
}

#[test]
fn parameters_are_arguments_in_declared_order() {
    let parameter = |name: &str| format!("[parameters.{name}]\nper_basis = false\ndefault = \"1\"\ndoc = \"x\"\n");
    let text = format!(
        "kind = \"basis\"\nformula = \"exp(-zeta*d)*alpha + mid\"\nsource = \"s\"\ndoc = \"d\"\n{}{}{}",
        parameter("zeta"),
        parameter("mid"),
        parameter("alpha")
    );
    let radial = Radial::load("bases/test.toml", "test", &text).unwrap();
    assert_eq!(radial.arguments().collect::<Vec<_>>(), ["d", "r_c", "k", "zeta", "mid", "alpha"]);
}

#[test]
fn literals_that_f32_cannot_hold_are_cast_on_a_cube() {
    let text = "kind = \"basis\"\nformula = \"0.1*d + 0.5\"\nsource = \"s\"\ndoc = \"d\"\n";
    let radial = Radial::load("bases/test.toml", "test", text).unwrap();
    let code = |target| radial.functions[0].render(target).code;
    assert_eq!(code(Target::Cube), "F::new(0.5) + F::cast_from(0.1f64) * d");
    assert_eq!(code(Target::Host), "d.lit(0.5) + d.lit(0.1) * d");
}

#[test]
fn gaussian_renders_as_recorded() {
    let files = generate(&sources()).unwrap();
    let file = files.iter().find(|f| f.path == "crates/ff-host/src/generated/gaussian.rs").unwrap();
    // The hash changes with every edit of the template and is checked by `cargo xtask codegen --check`.
    let (header, text) = file.text.split_once("\n\n").unwrap();
    let snapshot = include_str!("../snapshots/gaussian.rs.txt");
    assert!(
        header.starts_with(
            "// Generated by `cargo xtask codegen` from \
             kernel-templates/fused_message/{bases/gaussian.toml, radial_host.rs.tera}. Do not edit.\n// Content hash: "
        ),
        "{header}"
    );
    assert_eq!(text, snapshot, "if this change is meant, replace crates/ff-codegen/snapshots/gaussian.rs.txt");
}

#[test]
fn every_combination_is_rendered_once() {
    let files = generate(&sources()).unwrap();
    assert_eq!(files, generate(&sources()).unwrap(), "rendering twice gives two results");
    let mut paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
    assert!(paths.is_sorted());
    paths.dedup();
    assert_eq!(paths.len(), files.len());
    assert!(files.iter().all(|f| f.text.starts_with(crate::HEADER_START)), "a file has no header");
    let registry = files.iter().find(|f| f.path.ends_with("generated/fused_message.rs")).unwrap();
    for (line, times) in [
        (r#"variant("painn_mlp_gaussian_cosine_receiver", Painn, Mlp, Some(("gaussian", "cosine")), Receiver),"#, 1),
        (r#"variant("painn_tabulated_edge_atomic", Painn, Tabulated, None, EdgeAtomic),"#, 1),
        (
            r#"variant("painn_linear_bessel_mollifier_receiver", Painn, Linear, Some(("bessel", "mollifier")), Receiver),"#,
            1,
        ),
        (r#", "mollifier")), Receiver),"#, 4),
        ("mollifier_edge_atomic", 0),
        ("    variant(\"", 56),
    ] {
        assert_eq!(registry.text.matches(line).count(), times, "{line} in\n{}", registry.text);
    }
}

/// What `generate` says after one source was replaced.
fn failure(path: &str, text: &str) -> String {
    let mut sources = sources();
    sources.0.insert(format!("kernel-templates/fused_message/{path}"), text.to_owned());
    generate(&sources).expect_err("these sources should be refused").to_string()
}

#[test]
fn malformed_templates_are_refused_by_name() {
    let found = failure("radial_host.rs.tera", "{{ name");
    assert!(found.contains("radial_host.rs.tera"), "{found}");
    let found = failure("radial_host.rs.tera", "{{ nmae }}");
    assert!(found.contains("radial_host.rs.tera") && found.contains("nmae"), "{found}");
    let found = failure("radial_host.rs.tera", "{{ fail(msg=\"no kind `\" ~ kind ~ \"`\") }}");
    assert!(found.contains("radial_host.rs.tera") && found.contains("no kind `basis`"), "{found}");
}

#[test]
fn hashes_follow_includes() {
    let hash = |part: &str| {
        let mut sources = sources();
        let folder = "kernel-templates/fused_message";
        let template = format!("//! {{% include \"{folder}/part.rs.tera\" -%}}\n");
        sources.0.insert(format!("{folder}/radial_host.rs.tera"), template);
        sources.0.insert(format!("{folder}/part.rs.tera"), part.to_owned());
        let files = generate(&sources).unwrap();
        let file = files.into_iter().find(|f| f.path == "crates/ff-host/src/generated/bessel.rs").unwrap();
        file.text.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(hash("one"), hash("one"));
    assert_ne!(hash("one"), hash("two"));
}

#[test]
fn a_missing_template_is_named() {
    for (file, expected) in [
        ("radial_cube.rs.tera", "radial_cube.rs.tera: missing, expected a Tera template"),
        ("variants.toml", "variants.toml: missing, expected axes and combinations"),
    ] {
        let mut sources = sources();
        sources.0.remove(&format!("kernel-templates/fused_message/{file}"));
        let found = generate(&sources).unwrap_err();
        assert!(matches!(found, CodegenError::Missing { .. }), "{found:?}");
        assert!(found.to_string().contains(expected), "{found}");
    }
}

#[test]
fn impossible_variants_are_refused() {
    let axes = "[axes]\nmessage = [\"painn\"]\nfilter = [\"linear\", \"tabulated\"]\nbasis = \"bases\"\n\
                cutoff = [\"cosine\"]\nreduction = [\"receiver\"]\n";
    let with = |combination: &str| failure("variants.toml", &format!("{axes}[[combination]]\n{combination}"));
    for (found, expected) in [
        (with("basis = []"), "combination 1 has 0 bases and 1 cutoffs, expected both or neither"),
        (with("filter = [\"tabulated\"]"), "`painn_tabulated_bessel_cosine_receiver` does not read back"),
        (with("filter = [\"linear\"]\nbasis = []\ncutoff = []"), "`painn_linear_receiver` does not read back"),
        (with("basis = [\"gausian\"]"), "combination 1 basis: unknown name `gausian`, expected one of bessel"),
        (with("basis = [\"gausian\"]"), "(nearest: `gaussian`)"),
        (with("cutoff = [\"polynomial\"]"), "combination 1 cutoff: unknown name `polynomial`, expected one of cosine"),
        (with("message = [\"cfconv\"]"), "combination 1 message: `cfconv` is not on the axis"),
        (with("filters = []"), "(nearest: `filter`)"),
        (with("filter = [\"liner\"]"), "(nearest: `linear`)"),
    ] {
        assert!(found.contains("variants.toml") && found.contains(expected), "expected `{expected}` in: {found}");
    }
}

#[test]
fn kinds_are_sorted_bases_first() {
    let names: Vec<(RadialKind, String)> = radial().into_iter().map(|r| (r.kind, r.name)).collect();
    assert!(names.is_sorted() && names.len() >= 5, "{names:?}");
}
