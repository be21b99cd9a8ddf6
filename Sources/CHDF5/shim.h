// The few calls of libhdf5 that Tomos needs. Most of HDF5's names are macros, which Swift cannot see.
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

/// Opens a file for reading; negative on failure. Errors stay quiet.
static inline int64_t tomos_hdf5_open(const char *path) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    if (H5Fis_hdf5(path) <= 0) return -1;
    return H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
}
static inline void tomos_hdf5_close(int64_t file) { H5Fclose(file); }

/// Sizes of a numeric data set; returns its rank, −1 when there is none, −2 when it does not hold numbers.
static inline int tomos_hdf5_shape(int64_t file, const char *name, uint64_t *sizes, int limit) {
    // Every link of the path has to exist, or HDF5 reports an error instead of an answer.
    char part[256];
    const size_t length = strlen(name);
    if (length >= sizeof part) return -1;
    for (size_t i = 1; i <= length; i++) {
        if (name[i] != '/' && name[i] != 0) continue;
        memcpy(part, name, i); part[i] = 0;
        if (H5Lexists(file, part, H5P_DEFAULT) <= 0) return -1;
    }
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return -1;
    const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    const H5T_class_t kind = H5Tget_class(type);
    hsize_t dims[H5S_MAX_RANK];
    int rank = H5Sget_simple_extent_ndims(space);
    if (kind != H5T_INTEGER && kind != H5T_FLOAT) rank = -2;
    if (rank > limit) rank = -2;
    if (rank > 0) { H5Sget_simple_extent_dims(space, dims, NULL); for (int i = 0; i < rank; i++) sizes[i] = dims[i]; }
    H5Tclose(type); H5Sclose(space); H5Dclose(set);
    return rank;
}

static inline int tomos_hdf5_read(int64_t file, const char *name, hid_t type, void *out) {
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return -1;
    const herr_t result = H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
    H5Dclose(set);
    return result < 0 ? -1 : 0;
}
/// Reads a whole data set as 32-bit or 64-bit floats; negative on failure.
static inline int tomos_hdf5_read_floats(int64_t file, const char *name, float *out) { return tomos_hdf5_read(file, name, H5T_NATIVE_FLOAT, out); }
static inline int tomos_hdf5_read_doubles(int64_t file, const char *name, double *out) { return tomos_hdf5_read(file, name, H5T_NATIVE_DOUBLE, out); }

/// Text attribute of a data set ("units"); 0 when it was found.
static inline int tomos_hdf5_text(int64_t file, const char *name, const char *attribute, char *out, int capacity) {
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return -1;
    int found = -1;
    if (H5Aexists(set, attribute) > 0) {
        const hid_t a = H5Aopen(set, attribute, H5P_DEFAULT), type = H5Aget_type(a), space = H5Aget_space(a);
        if (H5Tget_class(type) == H5T_STRING && H5Sget_simple_extent_npoints(space) == 1) {
            if (H5Tis_variable_str(type) > 0) {
                char *text = NULL;
                const hid_t memory = H5Tcopy(H5T_C_S1);
                H5Tset_size(memory, H5T_VARIABLE);
                H5Tset_cset(memory, H5Tget_cset(type));
                if (H5Aread(a, memory, &text) >= 0 && text) { strncpy(out, text, (size_t)capacity - 1); out[capacity - 1] = 0; found = 0; H5free_memory(text); }
                H5Tclose(memory);
            } else if (H5Tget_size(type) < (size_t)capacity) {
                memset(out, 0, (size_t)capacity);
                if (H5Aread(a, type, out) >= 0) found = 0;
            }
        }
        H5Sclose(space); H5Tclose(type); H5Aclose(a);
    }
    H5Dclose(set);
    return found;
}
