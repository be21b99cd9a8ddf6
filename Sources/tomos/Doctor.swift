import ArgumentParser
import Compute
import ComputeCPU
import ComputeVulkan
import DICOM
import FoundationEssentials
import FrameCoding
import Glibc

/// What this machine offers and lacks.
struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what this machine offers: devices, libraries, data folder; and what is missing and how to install it.",
        discussion: "Exit code 1 means that something Tomos cannot work without is missing.")

    @OptionGroup var data: DataOptions
    @Flag(help: "Print one JSON document.") var json = false

    struct Report: Encodable {
        struct Device: Encodable {
            /// "cpu" or "vulkan".
            let kind, name: String
            /// Of `--device vulkan:index`.
            var index: Int?
            /// "discrete", "integrated", "virtual", "software" or "other".
            var type: String?
            var driver, version: String?
            var memoryBytes: Int?
            /// Why it cannot be used.
            var refusal: String?
            /// Whether `--device auto` takes it.
            var isChosen: Bool
        }
        struct Library: Encodable { let name: String; let version: String? }
        struct Folder: Encodable {
            let path: String
            let exists: Bool
            let instanceBytes, indexBytes, volumeCacheBytes, freeBytes: Int?
        }
        struct Remark: Encodable {
            /// Tomos does not work without it.
            let isRequired: Bool
            let what, remedy: String
        }
        let version: String
        let processors, memoryBytes: Int
        let devices: [Device]
        /// Why `--device auto` chooses as it does.
        let deviceChoice: String
        let libraries: [Library]
        let data: Folder
        let missing: [Remark]
    }

    func run() throws {
        let report = Self.examine(folder: data.folder)
        if json { Output.document(report) } else { print(Self.text(report)) }
        if report.missing.contains(where: \.isRequired) { throw ExitCode(1) }
    }

    static func examine(folder: String) -> Report {
        var missing: [Report.Remark] = []
        let vulkan = vulkanLoaderVersion()
        if vulkan == nil {
            missing.append(.init(isRequired: false, what: "Vulkan loader (GPU rendering; the CPU is used without it)",
                                 remedy: "apt-get install libvulkan1, and the GPU's driver (mesa-vulkan-drivers for AMD and Intel)"))
        }
        if !hasDICOMDictionary() {
            missing.append(.init(isRequired: true, what: "DCMTK's data dictionary dicom.dic", remedy: "apt-get install libdcmtk17, or set DCMDICTPATH to the file"))
        }
        var libraries = (DICOMLibraries.versions + CodingLibraries.versions).map { Report.Library(name: $0.name, version: $0.version) }
        libraries += [.init(name: "SQLite", version: text(from: "sqlite3_libversion")), .init(name: "Vulkan loader", version: vulkan)]

        let (devices, choice) = Self.devices()
        var isFolder = false
        let exists = FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) && isFolder
        return Report(
            version: Tomos.version,
            processors: sysconf(Int32(_SC_NPROCESSORS_ONLN)),
            memoryBytes: sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)),
            devices: devices,
            deviceChoice: choice,
            libraries: libraries,
            data: .init(path: folder, exists: exists,
                        instanceBytes: exists ? size(of: folder + "/instances") : nil,
                        indexBytes: exists ? ["", "-wal", "-shm"].reduce(0) { $0 + size(of: folder + "/index.sqlite" + $1) } : nil,
                        volumeCacheBytes: exists ? size(of: folder + "/volumes") : nil,
                        freeBytes: exists ? freeBytes(folder) : nil),
            missing: missing)
    }

    /// All devices, and what `auto` makes of them.
    private static func devices() -> ([Report.Device], String) {
        var found: [VulkanDeviceDescription] = [], refusal: String?
        do throws(ComputeError) { found = try VulkanInstance().devices } catch { if case .device(let reason) = error { refusal = reason } }
        let choice = try? DevicePolicy.auto.choose(among: found, refusal: refusal), chosen = choice?.devices ?? []
        let all = [Report.Device(kind: "cpu", name: CPUDevice().name, isChosen: chosen.isEmpty)] + found.map {
            Report.Device(kind: "vulkan", name: $0.name, index: $0.index, type: $0.kind.rawValue, driver: $0.driver, version: $0.version,
                          memoryBytes: $0.memoryBytes, refusal: $0.refusal, isChosen: chosen.contains($0.index))
        }
        return (all, choice?.reason ?? refusal ?? "")
    }

    static func text(_ report: Report) -> String {
        var rows = [["Tomos", report.version], ["processors", "\(report.processors)"], ["memory", Output.bytes(report.memoryBytes)]]
        rows += report.devices.map { d in
            var text = d.name
            if let type = d.type { text += " (\(type), Vulkan \(d.version ?? ""), \(d.driver ?? ""), \(Output.bytes(d.memoryBytes ?? 0)))" }
            if let refusal = d.refusal { text += ": not usable, \(refusal)" }
            return ["device \(d.kind)\(d.index.map { ":\($0)" } ?? "")\(d.isChosen ? " *" : "")", text]
        }
        rows.append(["  * by auto", report.deviceChoice])
        rows += report.libraries.map { [$0.name, $0.version ?? "not found"] }
        rows.append(["data folder", report.data.path + (report.data.exists ? "" : " (does not exist yet)")])
        if report.data.exists {
            rows += [("  instances", report.data.instanceBytes), ("  index", report.data.indexBytes), ("  volume cache", report.data.volumeCacheBytes),
                     ("  free on disk", report.data.freeBytes)].map { [$0.0, Output.bytes($0.1 ?? 0)] }
        }
        var lines = [Output.table(rows), ""]
        lines += report.missing.isEmpty ? ["Nothing is missing."] : report.missing.flatMap {
            ["\($0.isRequired ? "Missing" : "Optional, not found"): \($0.what).", "  \($0.remedy)"]
        }
        return lines.joined(separator: "\n")
    }

    /// Result of a loaded library's `const char *function(void)`.
    private static func text(from function: String) -> String? {
        guard let symbol = dlsym(nil, function) else { return nil }
        return unsafeBitCast(symbol, to: (@convention(c) () -> UnsafePointer<CChar>?).self)().map { String(cString: $0) }
    }

    /// Version of the installed loader, from vkEnumerateInstanceVersion; the loader is opened on demand, so that Tomos starts
    /// on machines without it.
    private static func vulkanLoaderVersion() -> String? {
        guard let handle = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL) else { return nil }
        defer { dlclose(handle) }
        guard let symbol = dlsym(handle, "vkEnumerateInstanceVersion") else { return "1.0" }
        var version: UInt32 = 0
        let enumerate = unsafeBitCast(symbol, to: (@convention(c) (UnsafeMutablePointer<UInt32>) -> Int32).self)
        guard enumerate(&version) == 0 else { return nil }
        return "\(version >> 22 & 0x7f).\(version >> 12 & 0x3ff).\(version & 0xfff)"
    }

    private static func hasDICOMDictionary() -> Bool {
        if let path = getenv("DCMDICTPATH") {
            return String(cString: path).split(separator: ":").contains { FileManager.default.fileExists(atPath: String($0)) }
        }
        let folders = (try? FileManager.default.contentsOfDirectory(atPath: "/usr/share")) ?? []
        return folders.contains { $0.contains("dcmtk") && FileManager.default.fileExists(atPath: "/usr/share/\($0)/dicom.dic") }
    }

    /// Bytes of a file, or of all files under a folder; 0 when absent.
    private static func size(of path: String) -> Int {
        var status = stat()
        guard lstat(path, &status) == 0 else { return 0 }
        guard status.st_mode & S_IFMT == S_IFDIR else { return Int(status.st_size) }
        guard let folder = opendir(path) else { return 0 }
        defer { closedir(folder) }
        var total = 0
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != "." && name != ".." { total += size(of: path + "/" + name) }
        }
        return total
    }

    private static func freeBytes(_ path: String) -> Int? {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { return nil }
        return Int(status.f_bavail) * Int(status.f_frsize)
    }
}
