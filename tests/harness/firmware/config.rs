//! As much of `config.txt` as decides which kernel starts. Source: config.txt of the Raspberry Pi documentation.

use super::model::Model;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// The kernels to look for; the first that is there starts.
    pub(super) kernels: Vec<String>,
    pub(super) upstream_kernel: bool,
    initramfs: Option<String>,
    auto_initramfs: bool,
    /// Everything else comes out of `boot.img`.
    pub(super) boot_ramdisk: bool,
    pub(super) overlays: Vec<String>,
}

impl Config {
    pub(super) fn parse(text: &str, model: Model) -> Config {
        let mut config = Config {
            kernels: model.kernels().iter().map(|name| (*name).to_owned()).collect(),
            upstream_kernel: false,
            initramfs: None,
            auto_initramfs: false,
            boot_ramdisk: false,
            overlays: Vec::new(),
        };
        let mut applies = true;
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                applies = model.section().contains(&section);
            } else if applies {
                config.take(line);
            }
        }
        config
    }

    fn take(&mut self, line: &str) {
        if let Some(words) = line.strip_prefix("initramfs ") {
            self.initramfs = words.split_ascii_whitespace().next().map(str::to_owned);
        }
        match line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("kernel", name)) => self.kernels = vec![name.into()],
            Some(("upstream_kernel", value)) => self.upstream_kernel = value == "1",
            Some(("boot_ramdisk", value)) => self.boot_ramdisk = value == "1",
            Some(("dtoverlay", value)) => {
                self.overlays
                    .extend(value.split(',').next().filter(|name| !name.is_empty()).map(str::to_owned));
            }
            Some(("auto_initramfs", value)) => self.auto_initramfs = value == "1",
            _ => {}
        }
    }

    /// The initramfs that goes with a kernel.
    pub(super) fn initramfs_for(&self, kernel: &str) -> Option<String> {
        let of_kernel = || {
            let name = kernel.strip_suffix(".img").unwrap_or(kernel);
            Some(format!("initramfs{}", name.strip_prefix("kernel")?))
        };
        self.initramfs.clone().or_else(|| self.auto_initramfs.then(of_kernel).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_other_models_are_skipped() {
        let text =
            "# a comment\nkernel=a.img\n[pi4]\nkernel=b.img\n[pi5]\nkernel=c.img\n[all]\nauto_initramfs=1\n";
        let kernels = |model| Config::parse(text, model).kernels;
        assert_eq!((kernels(Model::Pi3), kernels(Model::Pi4)), (vec!["a.img".into()], vec!["b.img".into()]));
    }

    #[test]
    fn an_initramfs_is_named_or_goes_with_its_kernel() {
        let named = Config::parse("initramfs initramfs8 followkernel\n", Model::Pi4);
        assert_eq!(named.initramfs_for("kernel8.img").as_deref(), Some("initramfs8"));
        let auto = Config::parse("auto_initramfs=1", Model::Pi5);
        assert_eq!(auto.initramfs_for("kernel_2712.img").as_deref(), Some("initramfs_2712"));
        assert_eq!(Config::parse("", Model::Pi4).initramfs_for("kernel8.img"), None);
    }
}
