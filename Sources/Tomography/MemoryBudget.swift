import Glibc

/// What this process may still allocate without pushing the machine into swapping.
public enum MemoryBudget {
    /// Bytes: memory the kernel calls available, or what the control group leaves, whichever is less.
    public static func available() -> Int {
        var bytes = Int.max
        if let text = read("/proc/meminfo"), let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
           let kilobytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) { bytes = kilobytes << 10 }
        if let limit = number("/sys/fs/cgroup/memory.max"), let used = number("/sys/fs/cgroup/memory.current") { bytes = min(bytes, max(0, limit - used)) }
        return bytes
    }
    private static func number(_ path: String) -> Int? { read(path).flatMap { Int($0.filter { !$0.isWhitespace }) } }
    private static func read(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let n = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<n], as: UTF8.self)
    }
}

