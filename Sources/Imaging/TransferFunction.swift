/// Colour and opacity as functions of the modality value: the classification of a composite rendering.
///
/// Piecewise linear between points; opacity is per millimetre of path at right angles (the renderer corrects for its step);
/// the first and the last point extend to both ends.
public struct TransferFunction: Hashable, Codable, Sendable {
    public struct Point: Hashable, Codable, Sendable {
        /// Modality value (HU for CT).
        public var value: Double
        /// 0…1 per millimetre.
        public var opacity: Double
        /// Red, green, blue; 0…1.
        public var color: [Double]
        public init(_ value: Double, _ opacity: Double, _ red: Double, _ green: Double, _ blue: Double) {
            self.value = value; self.opacity = opacity; color = [red, green, blue]
        }
    }
    /// Ascending in `value`; at least one.
    public var points: [Point]
    public init(_ points: [Point]) { self.points = points }

    public static let bone = Self([
        Point(150, 0, 0.60, 0.24, 0.16), Point(300, 0.22, 0.86, 0.55, 0.40),
        Point(600, 0.70, 0.98, 0.90, 0.76), Point(1200, 0.92, 1.00, 0.99, 0.95)])
    public static let softTissue = Self([
        Point(-400, 0, 0.90, 0.60, 0.50), Point(-150, 0.015, 0.93, 0.70, 0.58), Point(0, 0.02, 0.85, 0.48, 0.38),
        Point(150, 0.06, 0.80, 0.30, 0.22), Point(300, 0.2, 0.92, 0.62, 0.42), Point(1000, 0.85, 1.00, 0.99, 0.95)])
    public static let vessels = Self([
        Point(130, 0, 0.50, 0.06, 0.04), Point(200, 0.12, 0.78, 0.12, 0.08), Point(320, 0.45, 0.95, 0.35, 0.20),
        Point(500, 0.6, 0.98, 0.86, 0.70), Point(1200, 0.9, 1.00, 0.98, 0.94)])
    public static let lung = Self([
        Point(-1000, 0, 0.20, 0.35, 0.50), Point(-900, 0, 0.25, 0.45, 0.65), Point(-750, 0.012, 0.45, 0.65, 0.80),
        Point(-500, 0.05, 0.90, 0.75, 0.65), Point(-350, 0.04, 0.92, 0.66, 0.55), Point(-220, 0.0, 0.90, 0.55, 0.45)])

    /// Opacity rises through a window.
    public static func ramp(_ w: Window) -> Self {
        let low = w.center - w.width / 2, high = w.center + w.width / 2
        return Self([
            Point(low, 0, 0.60, 0.24, 0.16), Point(low + 0.35 * w.width, 0.03, 0.86, 0.55, 0.40),
            Point(low + 0.7 * w.width, 0.25, 0.98, 0.90, 0.76), Point(high, 0.6, 1, 0.99, 0.95)])
    }

    /// The named presets of the product.
    public static let presets: [String: Self] = ["bone": bone, "soft-tissue": softTissue, "vessels": vessels, "lung": lung]
}
