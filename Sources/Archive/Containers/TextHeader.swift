import Glibc

/// Lines and numbers of the headers written as text (NRRD, MetaImage).
enum TextHeader {
    /// Longest header that is believed.
    static let largest = 1 << 20

    /// The line that starts at `start`, without its end, and where the next one starts; `nil` at the end of the bytes.
    static func line(_ bytes: [UInt8], at start: Int) -> (text: String, next: Int)? {
        guard start < bytes.count else { return nil }
        let limit = min(bytes.count, start + largest)
        var end = start
        while end < limit, bytes[end] != 0x0a { end += 1 }
        var last = end
        while last > start, bytes[last - 1] == 0x0d { last -= 1 }
        return (String(decoding: bytes[start..<last], as: UTF8.self), end < bytes.count ? end + 1 : end)
    }

    static func trimmed(_ text: some StringProtocol) -> String {
        var view = text[...]
        while let c = view.first, c.isWhitespace { view.removeFirst() }
        while let c = view.last, c.isWhitespace { view.removeLast() }
        return String(view)
    }

    static func words(_ text: some StringProtocol) -> [Substring] { Substring(text).split(whereSeparator: \.isWhitespace) }

    /// All words as numbers; `nil` when one of them is none.
    static func numbers(_ text: some StringProtocol) -> [Double]? {
        var result: [Double] = []
        for word in words(text) {
            guard let v = Double(word) else { return nil }
            result.append(v)
        }
        return result
    }

    static func integers(_ text: some StringProtocol) -> [Int]? {
        var result: [Int] = []
        for word in words(text) {
            guard let v = Int(word) else { return nil }
            result.append(v)
        }
        return result
    }

    /// Names from a printf pattern with one `%d` or `%0Nd`, for first…last by step; the form both NRRD and MetaImage use.
    static func names(pattern: Substring, _ first: Int, _ last: Int, _ step: Int) -> [String]? {
        let believable = -1 << 32...1 << 32
        guard believable.contains(first), believable.contains(last), believable.contains(step), step != 0, (last - first) / step >= 0, (last - first) / step < 1 << 16,
              let percent = pattern.firstIndex(of: "%"), let d = pattern[percent...].firstIndex(of: "d") else { return nil }
        var width = pattern[pattern.index(after: percent)..<d]
        let zero = width.first == "0"
        if zero { width = width.dropFirst() }
        guard let digits = width.isEmpty ? 0 : Int(width), (0...32).contains(digits) else { return nil }
        return stride(from: first, through: last, by: step).map { n in
            let number = String(n)
            let padding = String(repeating: zero ? "0" : " ", count: max(0, digits - number.count))
            return pattern[..<percent] + padding + number + pattern[pattern.index(after: d)...]
        }
    }
}
