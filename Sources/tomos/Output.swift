import FoundationEssentials
import Glibc

/// Standard output carries results only; notes go to standard error.
enum Output {
    static func document(_ value: some Encodable) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(value) else { return note("tomos: the result cannot be written as JSON") }
        write(Array(data) + [10], to: STDOUT_FILENO)
    }

    static func note(_ text: String) { write(Array((text + "\n").utf8), to: STDERR_FILENO) }

    static func write(_ bytes: [UInt8], to descriptor: Int32) {
        var done = 0
        while done < bytes.count {
            let n = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
            if n <= 0 { if errno == EINTR { continue }; return }
            done += n
        }
    }

    /// "1.3 GB", in powers of ten as disks are sold.
    static func bytes(_ n: Int) -> String {
        var value = Double(n), unit = 0
        while value >= 1000, unit < 4 { value /= 1000; unit += 1 }
        return "\(unit == 0 || value >= 100 ? String(Int(value.rounded())) : decimal(value, 1)) \(["B", "kB", "MB", "GB", "TB"][unit])"
    }

    static func decimal(_ value: Double, _ places: Int) -> String {
        let scale = [1.0, 10, 100, 1000][places], n = Int((abs(value) * scale).rounded())
        let fraction = places == 0 ? "" : "." + String(repeating: "0", count: max(0, places - String(n % Int(scale)).count)) + String(n % Int(scale))
        return (value < 0 && n != 0 ? "-" : "") + String(n / Int(scale)) + fraction
    }

    /// Columns padded to their widest cell.
    static func table(_ rows: [[String]]) -> String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { c in rows.map { c < $0.count ? $0[c].count : 0 }.max() ?? 0 }
        return rows.map { row in
            var line = row.enumerated().map { $1 + String(repeating: " ", count: widths[$0] - $1.count) }.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }
}

/// Tells how far a long job is: a bar that redraws itself on a terminal, a line every few seconds elsewhere.
final class ProgressLine: @unchecked Sendable {
    private let title: String
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private var lock = pthread_mutex_t()
    private var lastDrawn: ContinuousClock.Instant?
    private var drawnLine = false

    init(_ title: String) {
        self.title = title
        pthread_mutex_init(&lock, nil)
    }
    deinit { pthread_mutex_destroy(&lock) }

    /// `total` nil: not known yet. Callable from any thread.
    func update(_ done: Int, of total: Int?, detail: String = "") {
        pthread_mutex_lock(&lock)
        defer { pthread_mutex_unlock(&lock) }
        let now = ContinuousClock.now
        let finished = total.map { done >= $0 } ?? false
        let interval: Duration = isTerminal ? .milliseconds(80) : .seconds(5)
        if let last = lastDrawn, !finished, now - last < interval { return }
        // Without a terminal short work stays silent until it is done.
        if lastDrawn == nil, !isTerminal, !finished { lastDrawn = now; return }
        lastDrawn = now
        let share = total.map { Double(done) / Double(max(1, $0)) }
        let count = total.map { "\(done)/\($0)" } ?? "\(done)"
        if isTerminal {
            let filled = Int(((share ?? 0) * 30).rounded())
            let bar = share == nil ? "" : "[" + String(repeating: "=", count: filled) + String(repeating: " ", count: 30 - filled) + "] "
            Output.write(Array("\r\u{1b}[K\(title) \(bar)\(count) \(detail)".utf8), to: STDERR_FILENO)
            drawnLine = true
        } else {
            Output.note("\(title) \(count)\(share.map { " (\(Int($0 * 100)) %)" } ?? "") \(detail)")
        }
    }

    /// Ends the bar; the next note starts on its own line.
    func finish() {
        pthread_mutex_lock(&lock)
        defer { pthread_mutex_unlock(&lock) }
        if drawnLine { Output.write([10], to: STDERR_FILENO); drawnLine = false }
    }
}
