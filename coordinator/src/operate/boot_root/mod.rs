//! `piseduce boot-root`: makes the boot roots that nodes fetch, and chooses which of them.

mod agent;
mod build;
mod debian;
mod image;
mod ingredients;
mod initramfs;
mod modules;
mod packages;
mod program;
mod tree;

use super::progress::with_progress;
use super::{ConfigOption, boot_roots};
use crate::config::Config;
use crate::data_directory::{DataDirectory, STORE};
use crate::image::{Checksum, Origin as ImageOrigin, Terms};
use crate::netboot::BootRoots;
use crate::netboot::boot_root::{Description, Kind, Whom};
use crate::print::{self, Output};
use crate::store::Examination;
use anyhow::{Context as _, bail};
use build::{AgentSource, Root};
use clap::{ArgGroup, Subcommand};
use packages::Origin;
use piseduce_protocol::model::{Model, ModelUnknown};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// `piseduce boot-root`.
#[derive(Clone, Debug, Subcommand)]
pub enum BootRootCommand {
    /// Build a version from packages or an image and make it the current one; versions that are there stay
    Build(Build),
    /// Build the agent for arm64 alone, as a user who has a Rust toolchain
    Agent(Agent),
    /// All versions
    List {
        /// Which coordinator's versions
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Make another version the current one, or that of one node or model: nodes that boot from now on get it
    Use {
        /// Its name, as `piseduce boot-root list` shows it
        boot_root: String,
        /// Who gets it
        #[command(flatten)]
        whom: WhomOption,
        /// Which coordinator's versions
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Give a node or model the current version again
    Unset {
        /// Who gets it
        #[command(flatten)]
        whom: WhomOption,
        /// Which coordinator's versions
        #[command(flatten)]
        config: ConfigOption,
    },
}

/// Who gets a version.
#[derive(Clone, Debug, clap::Args)]
pub struct WhomOption {
    /// Only the node of this name
    #[arg(long, value_name = "NODE", conflicts_with = "model")]
    node: Option<String>,
    /// Only nodes whose model begins so, such as "Raspberry Pi 5"
    #[arg(long, value_name = "TEXT")]
    model: Option<String>,
}

impl WhomOption {
    fn whom(self) -> Whom {
        let node = self.node.map(Whom::Node);
        node.or(self.model.map(Whom::Model)).unwrap_or(Whom::All)
    }
}

/// What `piseduce boot-root build` takes.
#[derive(Clone, Debug, clap::Args)]
#[command(group(ArgGroup::new("from").args(["debian", "from_image"]).required(true)))]
#[command(group(ArgGroup::new("root").args(["ram", "nfs"]).required(true)))]
pub struct Build {
    /// From Debian's packages; for Pi 3 and Pi 4, whose boards Debian's kernel knows
    #[arg(long)]
    debian: bool,
    /// From an image of Raspberry Pi OS for 64 bits, for every board: a file or an http:// address, packed or not
    #[arg(long, value_name = "FILE|URL")]
    from_image: Option<ImageOrigin>,
    /// The SHA-256 that the image's file must have, as its publisher gives it
    #[arg(long, value_name = "HEX", requires = "from_image")]
    sha256: Option<Checksum>,
    /// Kernel and one initramfs: nothing of it is fetched after the boot
    #[arg(long)]
    ram: bool,
    /// Kernel and a small initramfs, which fetches agent, tools and drivers over NFS; needs [netboot.nfs] in the settings
    #[arg(long)]
    nfs: bool,
    /// A built agent for arm64, instead of building one
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    agent: Option<PathBuf>,
    /// The source of PiSeduce, to build the agent from
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    source: PathBuf,
    /// Leave the current version the current one
    #[arg(long)]
    keep_current: bool,
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    config: ConfigOption,
}

/// What `piseduce boot-root agent` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Agent {
    /// The file to write
    output: PathBuf,
    /// The source of PiSeduce
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    source: PathBuf,
    #[command(flatten)]
    origin: Origin,
}

/// A version, as it is listed.
#[derive(Serialize)]
struct Listed {
    name: String,
    kind: Kind,
    /// All its files together.
    bytes: u64,
    /// Nodes that boot now get it, unless they have another.
    is_current: bool,
    /// Nodes and models that have it as their own.
    used_for: Vec<String>,
    /// BLAKE3 of the agent in it.
    agent: String,
}

impl Listed {
    fn of(description: &Description, roots: &BootRoots) -> Self {
        Listed {
            name: description.version.clone(),
            kind: description.kind,
            bytes: description.bytes(),
            is_current: roots.current().as_ref() == Some(&description.version),
            used_for: used_for(roots, &description.version),
            agent: description.agent.clone(),
        }
    }

    fn text(&self) -> String {
        let Listed { name, kind, bytes, is_current, used_for, agent } = self;
        let (agent, current) = (agent.get(..8).unwrap_or(agent), if *is_current { ", current" } else { "" });
        let mut text = format!("{name}: {kind}, {} MB, agent {agent}{current}", bytes.div_ceil(1_000_000));
        if !used_for.is_empty() {
            text += &format!(", for {}", used_for.join(", "));
        }
        text
    }
}

fn used_for(roots: &BootRoots, version: &str) -> Vec<String> {
    let its = roots.exceptions().into_iter().filter(|(_, chosen)| chosen == version);
    its.filter_map(|(whom, _)| match whom {
        Whom::Node(name) | Whom::Model(name) => Some(name),
        Whom::All => None,
    })
    .collect()
}

/// Carries out a subcommand.
///
/// # Errors
/// When something that is needed is missing, which is named; when packages cannot be fetched; when the coordinator's
/// directory cannot be used.
pub async fn run(command: BootRootCommand, output: Output) -> anyhow::Result<()> {
    match command {
        BootRootCommand::Build(arguments) => build(arguments, output).await,
        BootRootCommand::Agent(arguments) => agent(&arguments, output).await,
        BootRootCommand::List { config } => {
            let roots = roots(&config)?;
            let versions = roots.versions()?;
            if versions.is_empty() && output == Output::Text {
                print::aside(
                    "there is no boot root yet: `piseduce boot-root build --debian --ram` makes one",
                );
            }
            for version in versions {
                let listed = Listed::of(&roots.read(&version)?.description, &roots);
                output.tell("boot_root", &listed, Listed::text);
            }
            Ok(())
        }
        BootRootCommand::Unset { whom, config } => {
            let whom = whom.whom();
            if whom == Whom::All {
                bail!("name who gets the current version again: --node or --model");
            }
            let had = roots(&config)?.choose_no_other(&whom)?;
            let said = if had { "the current version from now on" } else { "the current version, as before" };
            output.tell("changed", &had, |_| said.into());
            Ok(())
        }
        BootRootCommand::Use { boot_root, whom, config } => {
            let settings = config.read()?;
            let roots = boot_roots(&settings);
            roots.choose(&boot_root, &known(whom.whom(), &settings)?)?;
            let listed = Listed::of(&roots.read(&boot_root)?.description, &roots);
            output.tell("boot_root", &listed, Listed::text);
            Ok(())
        }
    }
}

fn roots(config: &ConfigOption) -> anyhow::Result<BootRoots> {
    Ok(boot_roots(&config.read()?))
}

/// The same, of whom there is one: a node in the inventory, a model that a node or the list of models has.
fn known(whom: Whom, config: &Config) -> anyhow::Result<Whom> {
    let file = config.data_directory.join(STORE);
    let nodes = match file.exists() {
        true => Examination::open(&file)?.contents(&file)?.nodes,
        false => Vec::new(),
    };
    match whom {
        Whom::All => Ok(Whom::All),
        Whom::Node(name) if nodes.iter().any(|node| node.attributes.name == name) => Ok(Whom::Node(name)),
        Whom::Node(name) => bail!("there is no node `{name}`: `piseduce node list` shows their names"),
        Whom::Model(text) => {
            let begins = |name: &str| !text.is_empty() && name.starts_with(&text);
            if nodes.iter().any(|node| begins(&node.attributes.model)) {
                return Ok(Whom::Model(text));
            }
            match text.parse::<Model>() {
                Ok(Model::Other) | Err(_) => bail!("there is no model `{text}`: {ModelUnknown}"),
                Ok(model) if begins(model.name()) || text.starts_with(model.name()) => Ok(Whom::Model(text)),
                // Nodes bear the name that a device tree gives.
                Ok(model) => Ok(Whom::Model(model.name().into())),
            }
        }
    }
}

fn stages(output: Output) -> impl Fn(&str) {
    move |stage: &str| {
        if output == Output::Text {
            print::aside(format_args!("{stage} …"));
        }
    }
}

async fn build(arguments: Build, output: Output) -> anyhow::Result<()> {
    let config = arguments.config.read()?;
    let roots = boot_roots(&config);
    let root = match (&config.netboot.nfs, arguments.nfs) {
        (_, false) => Root::Ram,
        (Some(nfs), true) => Root::Nfs(nfs.directory.clone()),
        (None, true) => bail!(
            "{} does not say where trees for NFS are: add a [netboot.nfs] with its directory, see README, \"Boot root\"",
            arguments.config.file().display()
        ),
    };
    let source = match arguments.agent {
        Some(file) => AgentSource::File(file),
        None => AgentSource::Tree(arguments.source),
    };
    let tell = stages(output);
    let directory = roots.directory();
    fs::create_dir_all(directory).with_context(|| format!("failed to create {}", directory.display()))?;
    let scratch = tempfile::Builder::new().prefix(".build-").tempdir_in(directory);
    let scratch = scratch.with_context(|| format!("failed to write in {}", directory.display()))?;
    let agent = source.agent(&arguments.origin, &tell).await?;
    let suite = &arguments.origin.suite;
    let ingredients = match arguments.from_image {
        None => {
            tell(&format!("fetching the packages of Debian {suite} for arm64"));
            debian::ingredients(&arguments.origin, scratch.path()).await?
        }
        Some(origin) => {
            tell("unpacking the image");
            let library = DataDirectory::open(&config.data_directory)?.library(config.free_bytes)?;
            // Its kernels are what counts, and they are looked at.
            let terms = Terms { checksum: arguments.sha256, any_architecture: true };
            let (raw, layout) = with_progress(output, move |progress, stop| {
                library.open_image(&origin, &terms, progress, stop)
            })
            .await?;
            tell(&format!("copying kernels out of it, and fetching the tools of Debian {suite} for arm64"));
            image::ingredients(&raw, &layout, &arguments.origin, scratch.path()).await?
        }
    };
    tell("packing");
    let made = build::build(&roots, &ingredients, &agent, &root, scratch.path()).await?;
    if !arguments.keep_current {
        roots.choose(&made.description.version, &Whom::All)?;
    }
    let listed = Listed::of(&made.description, &roots);
    output.tell("boot_root", &listed, |listed| {
        let known = if made.known { " (it was there already)" } else { "" };
        listed.text() + known
    });
    Ok(())
}

async fn agent(arguments: &Agent, output: Output) -> anyhow::Result<()> {
    stages(output)("building the agent for arm64");
    let agent = agent::build(&arguments.source, &arguments.origin).await?;
    let path = &arguments.output;
    fs::write(path, &agent)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("failed to write {}", path.display()))?;
    let built = serde_json::json!({ "file": path, "bytes": agent.len() });
    output.tell("agent", &built, |_| format!("{} written, {} bytes", path.display(), agent.len()));
    Ok(())
}
