import Geometry
import Imaging

extension Slice {
    /// `size` is the full size; the section has the reduced one.
    func section(of geometry: VolumeGeometry, size: PixelSize, reduction: Int) -> Section {
        let spacing = geometry.spacing
        let turns = ((rotation % 4) + 4) % 4
        // Pixels per stored column and row.
        var scale = (column: 1.0, row: 1.0)
        if let zoom {
            scale = zoom == 1 ? (1, 1) : (zoom, zoom * spacing.y / spacing.x)
        } else {
            let width = Double(geometry.columns), height = Double(geometry.rows) * spacing.y / spacing.x
            let fit = turns % 2 == 0 ? min(Double(size.width) / width, Double(size.height) / height)
                                     : min(Double(size.width) / height, Double(size.height) / width)
            scale = (fit, fit * spacing.y / spacing.x)
        }
        // The inverse of: turn clockwise, then flip left to right. On the picture x points right and y down.
        let flip = isFlipped ? -1.0 : 1.0
        let turned: (x: (Double, Double), y: (Double, Double)) = switch turns {
        case 0: ((1, 0), (0, 1))
        case 1: ((0, -1), (1, 0))
        case 2: ((-1, 0), (0, -1))
        default: ((0, 1), (-1, 0))
        }
        let x = Vector<Voxel>(flip * turned.x.0 / scale.column, flip * turned.x.1 / scale.row, 0)
        let y = Vector<Voxel>(turned.y.0 / scale.column, turned.y.1 / scale.row, 0)
        let middle = Point<Voxel>(center?[0] ?? Double(geometry.columns - 1) / 2, center?[1] ?? Double(geometry.rows - 1) / 2, Double(index))
        var origin = middle - x * (Double(size.width - 1) / 2) - y * (Double(size.height - 1) / 2)
        if zoom == 1 {
            // Stored pixels fall on picture pixels.
            origin = Point((origin.x - 1e-9).rounded(.up), (origin.y - 1e-9).rounded(.up), origin.z)
        }
        let r = Double(reduction)
        origin = origin + (x + y) * ((r - 1) / 2)
        let reduced = PixelSize((size.width + reduction - 1) / reduction, (size.height + reduction - 1) / reduction)
        return Section(path: .slice(Affine(x: x * r, y: y * r, z: Vector(0, 0, 0), origin: origin), of: geometry), size: reduced)
    }
}
