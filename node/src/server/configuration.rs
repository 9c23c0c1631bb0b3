//! The configuration's way into the cluster: a node offers its file when the cluster has none, when it is told to
//! reload, and at start when the file differs from the one it remembers.

use super::Node;
use crate::config::{self, mask_secrets};
use api::ports::{ConfigEntry, ConfigSource, OfferError, QueryLogFile};
use model::{BoxFuture, ConfigVersion, Fs, Labels, TimestampMs, run_blocking};
use raft::meta::{ConfigFiles, MetaCommand, MetaResponse, OfferMode};
use scrape::TargetGroup;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::time::sleep;

/// Patience with one offer.
const OFFER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at service discovery files.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Looks after which a file that was there counts as deleted: one that is being replaced may be away for an instant.
const GONE_LOOKS: u32 = 2;
/// What a deleted file is offered as: no groups.
const NO_GROUPS: &str = "[]";
/// Files of one pattern at the most.
const FILES_MAX: usize = 1_000;
/// The file that remembers what this node offered last.
const REMEMBERED: &str = "offered.json";

/// What this node offered last: hashes of the configuration's text and of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    version: u8,
    text: Option<u64>,
    files: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct State {
    remembered: Remembered,
    /// Files of targets that cannot be used as they are, with the hashes of their contents: each is told once.
    broken: BTreeMap<String, u64>,
    last_reload_failed: bool,
    last_reload: TimestampMs,
    last_good_reload: Option<TimestampMs>,
    reloads: u64,
}

/// Offers and shows the configuration.
pub(crate) struct Configuration {
    node: Arc<Node>,
    files: Arc<Files>,
    /// Held by whoever works with files: one at a time, so that a disk that hangs takes one thread.
    disk: Arc<tokio::sync::Mutex<()>>,
}

/// The files of this node, and what is remembered of them. Waits for the disk.
struct Files {
    fs: Arc<dyn Fs>,
    /// The configuration file.
    file: PathBuf,
    /// Where it is remembered what was offered.
    remembered: PathBuf,
    state: Mutex<State>,
}

impl Files {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where relative paths begin.
    fn base(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// The text of the configuration file.
    fn text(&self) -> Result<String, String> {
        let path = self.file.display();
        let bytes = self.fs.read(&self.file).map_err(|error| format!("{path}:0: {error}"))?;
        String::from_utf8(bytes).map_err(|_| format!("{path}:0: not UTF-8"))
    }

    /// Contents of the service discovery files that the patterns name, and that this node has and can use.
    fn read(&self, patterns: &[String]) -> ConfigFiles {
        let mut files = ConfigFiles::new();
        for pattern in patterns {
            for path in expand(&*self.fs, self.base(), pattern) {
                let full = self.base().join(&path);
                match self.fs.read(&full) {
                    Ok(contents) => files.extend(self.usable(&path, contents).map(|text| (path, text))),
                    Err(error) => tracing::debug!(file = %full.display(), %error, "left out"),
                }
            }
        }
        files
    }

    /// The text of a file of targets, if it can be used.
    fn usable(&self, path: &str, contents: Vec<u8>) -> Option<String> {
        let hash = xxhash_rust::xxh3::xxh3_64(&contents);
        let offered = self.state().remembered.files.get(path) == Some(&hash);
        let checked = checked_file(path, contents, offered);
        let mut state = self.state();
        match checked {
            Ok(text) => {
                state.broken.remove(path);
                Some(text)
            }
            Err(error) => {
                if state.broken.insert(path.to_owned(), hash) != Some(hash) {
                    tracing::warn!(%error, "file of targets cannot be used; its last good targets stay");
                }
                None
            }
        }
    }

    fn remember(&self, change: impl FnOnce(&mut Remembered)) {
        let bytes = {
            let mut state = self.state();
            let before = state.remembered.clone();
            change(&mut state.remembered);
            state.remembered.version = 1;
            if state.remembered == before {
                return;
            }
            serde_json::to_vec(&state.remembered).expect("numbers and texts are JSON")
        };
        if let Err(error) = self.fs.replace(&self.remembered, &bytes) {
            tracing::warn!(%error, "what was offered cannot be remembered; it will be offered again at the next start");
        }
    }
}

fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

impl Configuration {
    pub(crate) fn new(node: Arc<Node>) -> Configuration {
        let (fs, path) = (node.ports.fs.clone(), node.options.data.join(REMEMBERED));
        let remembered = fs.read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let state = State { remembered: remembered.unwrap_or_default(), ..State::default() };
        let file = node.options.config_file.clone();
        let files = Arc::new(Files { fs, file, remembered: path, state: Mutex::new(state) });
        Configuration { node, files, disk: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.files.state()
    }

    /// Works with files beside the threads that serve; nothing comes of it if that panics.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> T + Send + 'static,
    ) -> Result<T, String> {
        let turn = self.disk.clone().lock_owned().await;
        let files = self.files.clone();
        let work = move || {
            let outcome = work(&files);
            drop(turn); // held until here also if nobody waits any more
            outcome
        };
        let outcome = run_blocking(&*self.node.ports.spawner, "configuration", work).await;
        outcome.ok_or_else(|| "files could not be read or written".to_owned())
    }

    /// When a reload last succeeded; `None` before the first one.
    pub(crate) fn last_good_reload(&self) -> Option<TimestampMs> {
        self.state().last_good_reload
    }

    /// When the last reload was, and whether it succeeded.
    pub(crate) fn last_reload(&self) -> (TimestampMs, bool) {
        let state = self.state();
        let at =
            if state.last_reload == TimestampMs::default() { self.node.started } else { state.last_reload };
        (at, !state.last_reload_failed)
    }

    async fn remember(&self, change: impl FnOnce(&mut Remembered) + Send + 'static) {
        let _said = self.on_disk(|files| files.remember(change)).await;
    }

    /// Offers the file as it was at the start.
    pub(crate) async fn offer_at_start(&self, text: Option<String>) {
        let Some(text) = text else { return };
        let remembered = self.state().remembered.text;
        let mode = match remembered {
            Some(hash_before) if hash_before != hash(&text) => OfferMode::Replace,
            _ => OfferMode::IfNone,
        };
        loop {
            match self.offer(&text, mode).await {
                Ok(version) => return tracing::info!(%version, "configuration offered"),
                Err(error) => tracing::warn!(%error, "configuration not offered yet"),
            }
            sleep(WATCH_INTERVAL).await;
        }
    }

    /// Offers a text that was checked.
    async fn offer(&self, text: &str, mode: OfferMode) -> Result<ConfigVersion, String> {
        let config = self.check(text)?;
        let files = self.read_files(&config).await?;
        let hashes: BTreeMap<_, _> = files.iter().map(|(path, text)| (path.clone(), hash(text))).collect();
        let files = self.files_to_offer(&config, files);
        let offer = MetaCommand::OfferConfig {
            node: Some(self.node.id()),
            mode,
            text: text.to_owned(),
            files,
            at: self.node.ports.clock.now(),
        };
        let version = self.propose(&offer).await.map_err(|error| error.to_string())?;
        let text = hash(text);
        self.remember(move |remembered| {
            remembered.text = Some(text);
            remembered.files.extend(hashes);
        })
        .await;
        Ok(version)
    }

    async fn propose(&self, command: &MetaCommand) -> Result<ConfigVersion, OfferError> {
        match self.node.propose_meta(command, OFFER_PATIENCE).await {
            Ok(MetaResponse::Config { version, .. }) => Ok(version),
            Ok(MetaResponse::Refused(refusal)) => Err(OfferError::Rejected(refusal.to_string())),
            Ok(other) => Err(OfferError::Unavailable(format!("meta answered {other:?} to a configuration"))),
            Err(error) => Err(OfferError::Unavailable(error.to_string())),
        }
    }

    /// Checks a text of this node's own file.
    fn check(&self, text: &str) -> Result<config::Config, String> {
        self.check_named(&self.node.options.config_file.display().to_string(), text)
    }

    fn check_named(&self, file: &str, text: &str) -> Result<config::Config, String> {
        config::parse(file, text, self.node.options.unsupported()).map_err(|error| error.to_string())
    }

    /// The files that go with a configuration, given those that this node could read.
    fn files_to_offer(&self, config: &config::Config, read: ConfigFiles) -> ConfigFiles {
        let state = self.node.meta.state();
        match state.config() {
            Some(committed) => completed(read, &committed.files, &config.file_sd_patterns()),
            None => read,
        }
    }

    /// Contents of the service discovery files that a configuration names, and that this node has and can use.
    async fn read_files(&self, config: &config::Config) -> Result<ConfigFiles, String> {
        let patterns = config.file_sd_patterns();
        self.on_disk(move |files| files.read(&patterns)).await
    }

    async fn reload_file(&self) -> Result<(), String> {
        let text = self.on_disk(Files::text).await??;
        self.check(&text)?;
        let version = self.offer(&text, OfferMode::Replace).await?;
        self.wait_in_force(version).await;
        Ok(())
    }

    /// Waits a moment until this node follows a version.
    async fn wait_in_force(&self, version: ConfigVersion) {
        let mut plan = self.node.plan.subscribe();
        let reached = plan.wait_for(|plan| plan.version >= version);
        let _later_then = tokio::time::timeout(OFFER_PATIENCE, reached).await;
    }

    /// Offers service discovery files when they change under this node's eyes.
    pub(crate) fn watch_files(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let this = self.clone();
        async move {
            let mut seen = BTreeMap::new();
            loop {
                sleep(WATCH_INTERVAL).await;
                let Some(text) = this.node.meta.state().config().map(|config| config.text.clone()) else {
                    continue;
                };
                let Ok(config) = this.check(&text) else { continue };
                let Ok(mut files) = this.read_files(&config).await else { continue };
                files.extend(this.deleted_files(&files, &mut seen).await);
                let here = files.clone();
                let changed: ConfigFiles = {
                    let remembered = &this.state().remembered.files;
                    files
                        .into_iter()
                        .filter(|(path, text)| remembered.get(path) != Some(&hash(text)))
                        .collect()
                };
                if !changed.is_empty() {
                    this.offer_files(changed).await;
                }
                this.compare_files(&config, &here);
            }
        }
    }

    /// Notes whether a file of targets that is here is not as the cluster has it, or cannot be used. One that is missing
    /// says nothing, as everywhere.
    fn compare_files(&self, config: &config::Config, here: &ConfigFiles) {
        let state = self.node.meta.state();
        let Some(committed) = state.config() else { return };
        let base = self.node.options.config_file.parent().unwrap_or(Path::new(""));
        let patterns = config.file_sd_patterns();
        let broken: Vec<_> = self.state().broken.keys().cloned().collect();
        let is_here = |path: &String| {
            let is_named = patterns.iter().any(|pattern| super::plan::matches_pattern(pattern, path));
            is_named && self.node.ports.fs.exists(&base.join(path))
        };
        let differs = differ(here, &committed.files) || broken.iter().any(is_here);
        self.node.has_other_files.store(differs, Ordering::Relaxed);
    }

    /// Files that were deleted under this node's eyes lose their targets, as in Prometheus; one that cannot be read
    /// keeps them, and one that was missing from the first look on says nothing. `seen` counts for each file that was
    /// there the looks since.
    async fn deleted_files(&self, there: &ConfigFiles, seen: &mut BTreeMap<String, u32>) -> ConfigFiles {
        let state = self.node.meta.state();
        seen.extend(there.keys().map(|path| (path.clone(), 0)));
        // Only those that the configuration in force knows.
        seen.retain(|path, _| state.config().is_some_and(|config| config.files.contains_key(path)));
        let mut deleted = ConfigFiles::new();
        let unread: Vec<String> = seen.keys().filter(|path| !there.contains_key(*path)).cloned().collect();
        if unread.is_empty() {
            return deleted;
        }
        let look = |files: &Files| {
            let missing = |path: &String| !files.fs.exists(&files.base().join(path));
            unread.into_iter().map(|path| (missing(&path), path)).collect::<Vec<_>>()
        };
        for (missing, path) in self.on_disk(look).await.unwrap_or_default() {
            let Some(looks) = seen.get_mut(&path) else { continue };
            *looks = if missing { *looks + 1 } else { 0 };
            if *looks >= GONE_LOOKS {
                deleted.insert(path, NO_GROUPS.to_owned());
            }
        }
        deleted
    }

    async fn offer_files(&self, mut files: ConfigFiles) {
        // A first sight of a file that the cluster knows already overrides nothing.
        let state = self.node.meta.state();
        let committed = state.config().map(|config| config.files.clone()).unwrap_or_default();
        let seen: BTreeMap<_, _> = files.iter().map(|(path, text)| (path.clone(), hash(text))).collect();
        {
            let known = &self.state().remembered.files;
            files.retain(|path, _| known.contains_key(path) || !committed.contains_key(path));
        }
        if !files.is_empty() {
            let offer =
                MetaCommand::OfferFiles { node: self.node.id(), files, at: self.node.ports.clock.now() };
            if let Err(error) = self.propose(&offer).await {
                return tracing::warn!(%error, "changed files of targets not offered yet");
            }
        }
        self.remember(move |remembered| remembered.files.extend(seen)).await;
    }
}

/// The files that were read, and of those that the cluster has the ones that a pattern names and that were not read: what
/// is missing, unreadable or broken on one node keeps its last good targets, as in Prometheus. Only a file that is
/// deleted under a node's eyes loses them.
fn completed(mut read: ConfigFiles, committed: &ConfigFiles, patterns: &[String]) -> ConfigFiles {
    for (path, contents) in committed {
        if patterns.iter().any(|pattern| super::plan::matches_pattern(pattern, path)) {
            read.entry(path.clone()).or_insert_with(|| contents.clone());
        }
    }
    read
}

/// Whether one of the files that are here is not as the cluster has it.
fn differ(here: &ConfigFiles, committed: &ConfigFiles) -> bool {
    here.iter().any(|(path, text)| committed.get(path) != Some(text))
}

/// The text of a file of targets, or what is wrong with it. One that was offered as it is was read then, and is not read
/// again every two seconds.
fn checked_file(path: &str, contents: Vec<u8>, offered: bool) -> Result<String, String> {
    let text = String::from_utf8(contents).map_err(|_| format!("{path}: not UTF-8"))?;
    if !offered {
        TargetGroup::parse_file(path, &text).map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// Paths that a pattern names, as written there; relative ones lie beside the configuration file.
fn expand(fs: &dyn Fs, base: &Path, pattern: &str) -> Vec<String> {
    if !pattern.contains('*') {
        return vec![pattern.to_owned()];
    }
    let folder = PathBuf::from(pattern.rsplit_once('/').map_or("", |(folder, _)| folder));
    let folder =
        if pattern.starts_with('/') && folder.as_os_str().is_empty() { PathBuf::from("/") } else { folder };
    let names = fs.list(&base.join(&folder)).unwrap_or_default();
    let paths = names.iter().map(|name| folder.join(name).display().to_string());
    paths.filter(|path| super::plan::matches_pattern(pattern, path)).take(FILES_MAX).collect()
}

impl ConfigSource for Configuration {
    fn yaml(&self) -> String {
        self.node.meta.state().config().map(|config| mask_secrets(&config.text)).unwrap_or_default()
    }

    fn flags(&self) -> BTreeMap<String, String> {
        self.node.options.flags.clone()
    }

    fn external_labels(&self) -> Labels {
        self.node
            .plan
            .borrow()
            .config
            .as_ref()
            .map(|config| config.external_labels.clone())
            .unwrap_or_default()
    }

    fn evaluation_interval(&self) -> Duration {
        let plan = self.node.plan.borrow();
        plan.config.as_ref().map_or(Duration::from_secs(60), |config| config.evaluation_interval.into())
    }

    fn query_log(&self) -> Option<QueryLogFile> {
        let plan = self.node.plan.borrow();
        let file = plan.config.as_ref()?.query_log_file.as_ref()?;
        let base = self.node.options.config_file.parent().unwrap_or(Path::new(""));
        Some(QueryLogFile { path: base.join(file), reloads: self.state().reloads })
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let result = self.reload_file().await;
            let mut state = self.state();
            state.last_reload_failed = result.is_err();
            state.reloads += 1;
            state.last_reload = self.node.ports.clock.now();
            if result.is_ok() {
                state.last_good_reload = Some(state.last_reload);
            }
            result
        })
    }

    fn apply(&self, yaml: String) -> BoxFuture<'_, Result<ConfigVersion, OfferError>> {
        Box::pin(async move {
            let config = self.check_named(config::OFFERED, &yaml).map_err(OfferError::Rejected)?;
            let files = self.read_files(&config).await.map_err(OfferError::Unavailable)?;
            let files = self.files_to_offer(&config, files);
            let at = self.node.ports.clock.now();
            let offer =
                MetaCommand::OfferConfig { node: None, mode: OfferMode::Replace, text: yaml, files, at };
            let version = self.propose(&offer).await?;
            self.wait_in_force(version).await;
            Ok(version)
        })
    }

    fn history(&self, limit: usize) -> BoxFuture<'_, Vec<ConfigEntry>> {
        let state = self.node.meta.state();
        let entries = state.configs.iter().rev().take(limit).map(|config| ConfigEntry {
            version: config.version,
            hash: format!("{:016x}", config.hash()),
            text_hash: config::text_hash(&config.text),
            offered_at: config.at,
            offered_by: config.offered_by.map_or_else(|| "operator".to_owned(), |id| self.node.name_of(id)),
            yaml: mask_secrets(&config.text),
        });
        let entries = entries.collect();
        Box::pin(async move { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::{checked_file, completed, differ};
    use raft::meta::ConfigFiles;

    fn files(pairs: &[(&str, &str)]) -> ConfigFiles {
        pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_a_node_lacks_of_the_clusters_files_is_kept_and_what_no_pattern_names_is_not() {
        let committed =
            files(&[("t/a.json", "old"), ("t/b.json", "b"), ("one.json", "1"), ("gone.json", "g")]);
        let patterns = ["t/*.json", "one.json"].map(str::to_owned);
        let all = completed(files(&[("t/a.json", "new")]), &committed, &patterns);
        assert_eq!(all, files(&[("t/a.json", "new"), ("t/b.json", "b"), ("one.json", "1")]));
    }

    #[test]
    fn a_node_without_any_of_the_files_takes_no_targets_away() {
        let committed = files(&[("t/a.json", "a"), ("t/b.json", "b")]);
        assert_eq!(completed(files(&[]), &committed, &["t/*.json".to_owned()]), committed);
    }

    #[test]
    fn files_differ_if_one_that_is_here_is_another_or_new_and_not_if_one_is_missing() {
        let committed = files(&[("t/a.json", "a"), ("t/b.json", "b")]);
        assert!(!differ(&files(&[("t/a.json", "a")]), &committed));
        assert!(differ(&files(&[("t/a.json", "a"), ("t/b.json", "old")]), &committed));
        assert!(differ(&files(&[("t/c.json", "c")]), &committed));
    }

    #[test]
    fn a_broken_file_of_targets_is_not_offered() {
        let read = |text: &str| checked_file("t.json", text.as_bytes().to_vec(), false);
        assert_eq!(read(r#"[{"targets": ["a:1"]}]"#).as_deref(), Ok(r#"[{"targets": ["a:1"]}]"#));
        assert!(read(r#"[{"targets": ["a:1"#).unwrap_err().starts_with("t.json: EOF while parsing"));
        assert_eq!(checked_file("t.json", vec![0xff], true).unwrap_err(), "t.json: not UTF-8");
    }
}
