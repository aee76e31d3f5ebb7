//! NVRTC, loaded where it is found: CUDA C++ to PTX and to resources, without a driver.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

/// The variable that names the library, or a folder that holds it, before any other place.
pub const VARIABLE: &str = "FORGEFIELD_NVRTC";

/// Installed names, newest first: the soname carries CUDA's major version.
const NAMES: [&str; 6] =
    ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "libnvrtc.dylib"];

type Program = *mut c_void;
type Status = c_int;

/// NVRTC's entry points, as `nvrtc.h` declares them.
struct Api {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status,
    n_archs: unsafe extern "C" fn(*mut c_int) -> Status,
    archs: unsafe extern "C" fn(*mut c_int) -> Status,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    error: unsafe extern "C" fn(Status) -> *const c_char,
}

/// A loaded NVRTC with the headers that go with it.
pub struct Nvrtc {
    /// Where it was found.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (i32, i32),
    /// Folders with `cuda_runtime.h` and what it includes.
    includes: Vec<PathBuf>,
    api: Api,
    /// The entry points are valid as long as this lives.
    _library: Library,
}

/// Why there is no NVRTC.
#[derive(Debug)]
pub struct Missing {
    /// Every place that was looked at, or could not be loaded, and why.
    pub looked: Vec<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no NVRTC here; looked at {}. Point {VARIABLE} or CUDA_PATH at one, or `pip install nvidia-cuda-nvrtc \
             nvidia-cuda-runtime` into a virtual environment that is active",
            self.looked.join(", ")
        )
    }
}

/// What NVRTC made of a source.
pub struct Compiled {
    /// PTX, as the driver would be given it.
    pub ptx: String,
    /// What it and ptxas had to say.
    pub log: String,
}

impl Nvrtc {
    /// Looks for the library and its headers.
    ///
    /// # Errors
    /// [`Missing`] with every place.
    pub fn find() -> Result<Self, Missing> {
        let mut looked = Vec::new();
        let wheels = wheels();
        let mut candidates = Vec::new();
        if let Some(given) = std::env::var_os(VARIABLE).map(PathBuf::from) {
            // What is named is used, or nothing is.
            looked.push(format!("{} ({VARIABLE})", given.display()));
            if given.is_dir() { candidates.extend(libraries(&given)) } else { candidates.push(given) }
        } else {
            let mut folders = Vec::new();
            if let Some(toolkit) = std::env::var_os("CUDA_PATH").map(PathBuf::from) {
                folders.extend(["lib64", "lib", "bin", "targets/x86_64-linux/lib"].map(|d| toolkit.join(d)));
                looked.push(format!("{} (CUDA_PATH)", toolkit.display()));
            }
            for wheel in &wheels {
                folders.extend(entries(wheel).into_iter().map(|part| part.join("lib")));
                looked.push(wheel.display().to_string());
            }
            for toolkit in TOOLKITS {
                folders.extend(["lib64", "lib"].map(|d| Path::new(toolkit).join(d)));
                looked.push((*toolkit).to_owned());
            }
            candidates.extend(folders.iter().flat_map(|folder| libraries(folder)));
            // By name alone: wherever the system's loader looks.
            candidates.extend(NAMES.map(PathBuf::from));
            looked.push("the system's library path".to_owned());
        }
        for path in candidates {
            let bare = path.components().count() == 1;
            // SAFETY: loading NVRTC runs its initialisers, which only set up its own state.
            match unsafe { Library::new(&path) } {
                Ok(library) => match Self::open(library, &path, &wheels) {
                    Ok(nvrtc) => return Ok(nvrtc),
                    Err(reason) => looked.push(format!("{} ({reason})", path.display())),
                },
                Err(_) if bare => {}
                Err(error) => looked.push(format!("{} ({error})", path.display())),
            }
        }
        Err(Missing { looked })
    }

    fn open(library: Library, path: &Path, wheels: &[PathBuf]) -> Result<Self, String> {
        /// A symbol's address, copied out; the library outlives it.
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is the one that `nvrtc.h` declares for this name.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }.map_err(|e| e.to_string())?
            };
        }
        let api = Api {
            version: symbol!("nvrtcVersion"),
            n_archs: symbol!("nvrtcGetNumSupportedArchs"),
            archs: symbol!("nvrtcGetSupportedArchs"),
            create: symbol!("nvrtcCreateProgram"),
            destroy: symbol!("nvrtcDestroyProgram"),
            compile: symbol!("nvrtcCompileProgram"),
            log_size: symbol!("nvrtcGetProgramLogSize"),
            log: symbol!("nvrtcGetProgramLog"),
            ptx_size: symbol!("nvrtcGetPTXSize"),
            ptx: symbol!("nvrtcGetPTX"),
            error: symbol!("nvrtcGetErrorString"),
        };
        let mut version = (0, 0);
        // SAFETY: both pointers are to live integers.
        let status = unsafe { (api.version)(&mut version.0, &mut version.1) };
        if status != 0 {
            return Err(format!("nvrtcVersion: status {status}"));
        }
        let includes = includes(path, wheels);
        if includes.is_empty() {
            return Err("no cuda_runtime.h with it; the wheel nvidia-cuda-runtime has it".to_owned());
        }
        Ok(Self { path: path.to_owned(), version, includes, api, _library: library })
    }

    /// `13.2`.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// Compute capabilities that it compiles for, as `sm_…` has them.
    pub fn archs(&self) -> Vec<u16> {
        let mut count = 0;
        // SAFETY: the pointer is to a live integer.
        if unsafe { (self.api.n_archs)(&mut count) } != 0 {
            return Vec::new();
        }
        let mut archs = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the buffer has as many integers as NVRTC said it writes.
        if unsafe { (self.api.archs)(archs.as_mut_ptr()) } != 0 {
            return Vec::new();
        }
        archs.into_iter().filter_map(|a| u16::try_from(a).ok()).collect()
    }

    /// Compiles with the options of CubeCL's CUDA runtime, and lets ptxas say what the machine code takes.
    ///
    /// # Errors
    /// NVRTC's log.
    pub fn compile(&self, source: &str, version: u16) -> Result<Compiled, String> {
        // From Hopper on CubeCL asks for the architecture's own instructions.
        let own = if version >= 90 { "a" } else { "" };
        let mut options = vec![format!("--gpu-architecture=sm_{version}{own}"), "-lineinfo".to_owned()];
        options.extend(self.includes.iter().map(|folder| format!("--include-path={}", folder.display())));
        options.push("--ptxas-options=-v".to_owned());
        let options: Vec<CString> = options.into_iter().map(text).collect::<Result<_, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let source = text(source.to_owned())?;
        let mut program: Program = ptr::null_mut();
        // SAFETY: the source is a live C string; no name and no headers are given.
        self.check(unsafe {
            (self.api.create)(&mut program, source.as_ptr(), ptr::null(), 0, ptr::null(), ptr::null())
        })?;
        // SAFETY: the program was just created, the options are live C strings, as many as is said.
        let status = unsafe { (self.api.compile)(program, options.len() as c_int, options.as_ptr()) };
        let log = self.read(program, self.api.log_size, self.api.log);
        let ptx = if status == 0 { self.read(program, self.api.ptx_size, self.api.ptx) } else { Ok(String::new()) };
        // SAFETY: created above and not used after.
        unsafe { (self.api.destroy)(&mut program) };
        let log = log?;
        if status != 0 {
            return Err(if log.trim().is_empty() { self.message(status) } else { log });
        }
        Ok(Compiled { ptx: ptx?, log })
    }

    fn read(
        &self,
        program: Program,
        size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        get: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ) -> Result<String, String> {
        let mut length = 0;
        // SAFETY: the program is live, the pointer is to a live integer.
        self.check(unsafe { size(program, &mut length) })?;
        let mut bytes = vec![0_u8; length];
        // SAFETY: the buffer has the length that NVRTC asked for, its final NUL included.
        self.check(unsafe { get(program, bytes.as_mut_ptr().cast()) })?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    fn check(&self, status: Status) -> Result<(), String> {
        if status == 0 { Ok(()) } else { Err(self.message(status)) }
    }

    fn message(&self, status: Status) -> String {
        // SAFETY: NVRTC returns a static string for every status.
        unsafe { CStr::from_ptr((self.api.error)(status)) }.to_string_lossy().into_owned()
    }
}

fn text(text: String) -> Result<CString, String> {
    CString::new(text).map_err(|_| "a NUL within text for NVRTC".to_owned())
}

/// Where toolkits are installed.
const TOOLKITS: &[&str] = &["/usr/local/cuda", "/opt/cuda"];

/// `nvidia` folders of Python environments: of the active one, of a `.venv` here, of each `python` on the path, and of the
/// user.
fn wheels() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    prefixes.push(PathBuf::from(".venv"));
    if let Some(path) = std::env::var_os("PATH") {
        prefixes.extend(
            std::env::split_paths(&path)
                .filter(|bin| bin.join("python3").exists())
                .filter_map(|bin| bin.parent().map(Path::to_owned)),
        );
    }
    prefixes.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".local")));
    prefixes.push(PathBuf::from("/usr/local"));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for prefix in prefixes {
        let versions = entries(&prefix.join("lib")).into_iter().filter(|d| name(d).starts_with("python"));
        for packages in versions.flat_map(|d| [d.join("site-packages"), d.join("dist-packages")]) {
            let nvidia = packages.join("nvidia");
            if nvidia.is_dir() && seen.insert(nvidia.canonicalize().unwrap_or_else(|_| nvidia.clone())) {
                found.push(nvidia);
            }
        }
    }
    found
}

/// Folders with headers for the library at `path`: beside it, in a sibling wheel of its version, in a toolkit.
fn includes(path: &Path, wheels: &[PathBuf]) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Some(root) = path.parent().and_then(Path::parent) {
        candidates.push(root.join("include"));
        // `nvidia/cuda_nvrtc/lib` lies beside `nvidia/cuda_runtime/include`; /usr/lib/x86_64-linux-gnu below /usr.
        if let Some(above) = root.parent() {
            candidates.push(above.join("include"));
            candidates.push(above.join("cuda_runtime/include"));
        }
    }
    candidates.extend(std::env::var_os("CUDA_PATH").map(|toolkit| Path::new(&toolkit).join("include")));
    candidates.extend(wheels.iter().flat_map(|w| entries(w)).map(|part| part.join("include")));
    candidates.extend(TOOLKITS.iter().map(|toolkit| Path::new(toolkit).join("include")));
    let first = candidates.into_iter().find(|folder| folder.join("cuda_runtime.h").is_file());
    let Some(first) = first else { return Vec::new() };
    let cccl = first.join("cccl");
    [first].into_iter().chain(cccl.is_dir().then_some(cccl)).collect()
}

/// NVRTC libraries of a folder by name, newest first.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = entries(folder)
        .into_iter()
        .filter(|file| {
            let name = name(file);
            let stem = name.starts_with("libnvrtc.") || name.starts_with("nvrtc64_");
            stem && !name.contains("static") && !name.contains("alt") && !name.ends_with(".a")
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).map(|list| list.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
